//! Identities cost nothing, so an attacker makes some that lie nearer to a key than anybody else, and what is stored
//! under it is stored with them.
//!
//! The attacker needs about as many tries for each as there are peers, since it has to hit the gap between the key and
//! the nearest peer. Its identities know each other, name nobody else, and give out forgeries in place of the record.

use std::fmt;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::key::{Key, nearest};
use crate::lookup::{Rules, look_up};
use crate::population::{Kind, Population, TableLimits};

/// What the attacker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attack {
    /// How many identities nearest to the key.
    pub sybils: usize,
    /// Of how many IP networks their addresses are.
    pub groups: usize,
}

impl Attack {
    /// Those that are looked at: from one IP network, from some, and from one for each identity.
    pub const ALL: [Self; 10] = [
        Self::of(1, 1),
        Self::of(10, 1),
        Self::of(19, 1),
        Self::of(20, 1),
        Self::of(80, 1),
        Self::of(20, 8),
        Self::of(80, 8),
        Self::of(20, 10),
        Self::of(20, 20),
        Self::of(80, 80),
    ];

    pub(crate) const fn of(sybils: usize, groups: usize) -> Self {
        Self { sybils, groups }
    }
}

/// What stands against it. All but the first have signed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defence {
    /// The first answer is believed.
    Nothing,
    /// Records are signed: a forgery is no answer, and the lookup goes on.
    Signatures,
    /// Publisher and reader look up by three separate paths.
    Paths,
    /// Tables take 2 peers of an IP network into a bucket and 3 in all.
    TableLimits,
    /// Lookups pass over all but the 2 nearest peers of an IP network.
    LookupLimits,
    /// Limits of tables and of lookups.
    BothLimits,
    /// Nine readers of ten also have another source, which the attacker does not reach.
    SecondSource,
    /// Signatures, both limits and the second source.
    All,
}

impl Defence {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Signatures,
        Self::Paths,
        Self::TableLimits,
        Self::LookupLimits,
        Self::BothLimits,
        Self::SecondSource,
        Self::All,
    ];

    fn limits_tables(self) -> bool {
        matches!(self, Self::TableLimits | Self::BothLimits | Self::All)
    }

    fn rules(self) -> Rules {
        let limited = matches!(self, Self::LookupLimits | Self::BothLimits | Self::All);
        let paths = if self == Self::Paths { 3 } else { 1 };
        Rules { paths, group_max: limited.then_some(BUCKET_MAX), ..Rules::kademlia(K) }
    }

    fn has_second_source(self) -> bool {
        matches!(self, Self::SecondSource | Self::All)
    }
}

impl fmt::Display for Defence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "none",
            Self::Signatures => "signatures",
            Self::Paths => "3 paths",
            Self::TableLimits => "table limits",
            Self::LookupLimits => "lookup limits",
            Self::BothLimits => "both limits",
            Self::SecondSource => "second source",
            Self::All => "all but paths",
        })
    }
}

/// How often the attacker succeeds.
#[derive(Debug, Clone, Copy)]
pub struct Censored {
    /// What it has.
    pub attack: Attack,
    /// What stands against it.
    pub defence: Defence,
    /// The share of readers that did not get the true record.
    pub share: f64,
}

/// Publishes a record under each of some keys among `peers` honest peers, and has others read it.
pub fn measure(peers: usize, attack: Attack, defence: Defence, seed: u64) -> Censored {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7379_6269);
    let mut censored = 0;
    for round in 0..KEYS {
        let key = Key::random(&mut rng);
        let mut population = besieged(peers, attack, key, seed + round as u64);
        if defence.limits_tables() {
            population.limit_tables(TableLimits { bucket_max: BUCKET_MAX, table_max: TABLE_MAX });
        }
        let publisher = population.any_honest(&mut rng);
        let holders = look_up(&mut population, publisher, key, &defence.rules()).nearest;
        for _ in 0..READERS {
            let reader = population.any_honest(&mut rng);
            let outcome = look_up(&mut population, reader, key, &defence.rules());
            let elsewhere = defence.has_second_source() && rng.random_bool(SECOND_SOURCE);
            // Who answers with the record or a forgery, in the order in which they were asked.
            let lies = |peer| population.kind(peer) == Kind::Liar;
            let mut says =
                outcome.answered.into_iter().filter(|&peer| lies(peer) || holders.contains(&peer));
            let got = match defence {
                Defence::Nothing => says.next().is_some_and(|first| !lies(first)),
                _ => says.any(|peer| !lies(peer)),
            };
            censored += usize::from(!got && !elsewhere);
        }
    }
    Censored { attack, defence, share: censored as f64 / (KEYS * READERS) as f64 }
}

/// Honest peers anywhere, and the attacker's between the key and the nearest of them.
pub(crate) fn besieged(peers: usize, attack: Attack, key: Key, seed: u64) -> Population {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut honest: Vec<_> = (0..peers).map(|_| Key::random(&mut rng)).collect();
    honest.sort_unstable();
    let gap = nearest(&honest, key, 1).first().map_or(u64::MAX, |&index| honest[index].distance(key));
    let groups = u32::try_from(attack.groups).expect("few groups");
    let sybil = |number: u32| {
        let place = Key(key.0 ^ rng.random_range(1..gap));
        (place, Kind::Liar, Some(number % groups))
    };
    let sybils: Vec<_> = (0..u32::try_from(attack.sybils).expect("few of them")).map(sybil).collect();
    let honest = honest.into_iter().map(|key| (key, Kind::Honest, None));
    Population::new(honest.chain(sybils), K, seed)
}

const K: usize = 20;
const BUCKET_MAX: usize = 2;
const TABLE_MAX: usize = 3;
/// How likely a reader has another source that knows the record.
const SECOND_SOURCE: f64 = 0.9;
const KEYS: usize = 25;
const READERS: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::standard;

    fn censored(sybils: usize, groups: usize, defence: Defence) -> f64 {
        let attack = Attack::of(sybils, groups);
        let row =
            standard::placement().iter().find(|row| row.attack == attack && row.defence == defence);
        row.unwrap().share
    }

    #[test]
    fn without_signatures_one_identity_near_a_key_deceives_and_with_them_nineteen_hide_nothing() {
        assert!(censored(1, 1, Defence::Nothing) > 0.2);
        assert!(censored(19, 1, Defence::Nothing) > 0.8);
        assert!(censored(19, 1, Defence::Signatures) < 0.02);
    }

    #[test]
    fn as_many_identities_as_hold_a_record_hide_it_and_three_paths_do_not_help() {
        assert!(censored(20, 20, Defence::Signatures) > 0.9);
        assert!(censored(20, 20, Defence::Paths) > 0.9);
    }

    #[test]
    fn limits_stop_an_attacker_of_few_ip_networks_and_not_one_of_ten() {
        for (sybils, groups) in [(20, 1), (80, 1), (20, 8), (80, 8)] {
            assert!(censored(sybils, groups, Defence::BothLimits) < 0.02);
        }
        assert!(censored(20, 10, Defence::BothLimits) > 0.9);
    }

    #[test]
    fn limits_of_tables_alone_do_not_help_since_the_attackers_identities_name_each_other() {
        assert!(censored(80, 1, Defence::TableLimits) > 0.9);
        assert!(censored(80, 1, Defence::LookupLimits) < 0.05);
    }

    #[test]
    fn a_second_source_helps_against_an_attacker_with_any_number_of_ip_networks() {
        assert!(censored(80, 80, Defence::All) < 0.2);
    }
}
