//! How fast a relay takes on circuits.
//!
//! libp2p negotiates ten circuits at once with one peer. It drops the eleventh without an answer, and
//! counts it as open until that peer's connection ends. So a rush is turned away in order instead;
//! those who are turned away try again.

use std::time::{Duration, Instant};

/// Circuits taken on at once after a quiet time: well below libp2p's ten.
const BURST: u32 = 3;

/// After that, one circuit in this time: a peer that answers within 200 ms never has more than ten
/// under way, and two hundred circuits take six seconds.
const INTERVAL: Duration = Duration::from_millis(30);

/// The pace so far.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When all circuits so far would have been taken on at one an interval.
    paid: Option<Instant>,
}

impl Pace {
    /// Whether one more circuit may be taken on now.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        let allowed = paid.duration_since(now) <= INTERVAL * (BURST - 1);
        if allowed {
            self.paid = Some(paid + INTERVAL);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_on_and_then_one_circuit_an_interval() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let taken = (0..100).filter(|_| pace.allows(start)).count();
        assert_eq!(taken, BURST as usize);
        for step in 1..=10 {
            let now = start + INTERVAL * step;
            assert!(pace.allows(now));
            assert!(!pace.allows(now), "one an interval");
        }
        let quiet = start + Duration::from_secs(10);
        assert_eq!((0..100).filter(|_| pace.allows(quiet)).count(), BURST as usize);
    }
}
