//! A network falls into two halves that do not hear each other, and hears itself again.

use crate::living::Living;

/// What peers do once both halves can hear each other again, before they refresh their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejoin {
    /// They connect with their bootstraps, which are all of their own half.
    OwnHalf,
    /// They connect with their bootstraps, which are of both halves.
    Redial,
    /// They also ask each of these bootstraps who is near to them, and connect with those.
    Ask,
}

impl Rejoin {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::OwnHalf, Self::Redial, Self::Ask];
}

/// Whether the halves of a network find each other again.
#[derive(Debug, Clone, Copy)]
pub struct Heal {
    /// What peers do.
    pub rejoin: Rejoin,
    /// The share of lookups that found the nearest peer of all before the split.
    pub before: f64,
    /// In the split: the nearest of the asker's half.
    pub split: f64,
    /// Once the halves can hear each other, and everybody has refreshed its table 0, 1, 2 and 3 times: the nearest of all.
    pub healed: [f64; 4],
}

/// Splits a network for so long that nobody remembers anybody of the other half, and joins the halves.
pub fn measure(peers: usize, rejoin: Rejoin, seed: u64) -> Heal {
    let mut living = Living::new(peers, seed);
    let before = success(&mut living);
    living.split(true);
    living.forget_the_unreachable();
    living.refresh_all();
    let split = success(&mut living);
    living.split(false);
    let healed = [0, 1, 2, 3].map(|round| {
        if round > 0 {
            living.redial_bootstraps(rejoin != Rejoin::OwnHalf, rejoin == Rejoin::Ask);
            living.refresh_all();
        }
        success(&mut living)
    });
    Heal { rejoin, before, split, healed }
}

fn success(living: &mut Living) -> f64 {
    let found = (0..LOOKUPS).filter(|_| living.finds_the_nearest().0).count();
    found as f64 / LOOKUPS as f64
}

const LOOKUPS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standard;

    #[test]
    fn two_halves_are_one_network_after_one_refresh_if_peers_ask_bootstraps_of_both_who_is_near() {
        for row in standard::heal() {
            assert!(row.before > 0.99 && row.split > 0.99, "{row:?}");
            assert!(row.healed[0] < 0.7, "{row:?}");
            match row.rejoin {
                Rejoin::OwnHalf => assert!(row.healed[3] < 0.7, "{row:?}"),
                Rejoin::Redial => assert!(row.healed[1] < 0.97, "{row:?}"),
                Rejoin::Ask => assert!(row.healed[1] > 0.99, "{row:?}"),
            }
        }
    }
}
