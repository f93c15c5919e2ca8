//! When a router is asked to forward one port, how, and when again: pure.
//!
//! ```text
//! asking: PCP --failed--> NAT-PMP --failed--> UPnP --failed--> asking, after a wait that doubles
//!           '----------------'-- granted: held --'
//! held:   renewed at half of its time --failed--> again at half of what is left --ran out--> asking
//! ```

use std::time::{Duration, Instant};

use crate::event::MappingProtocol;

/// Best first: PCP tells most and is the cheapest; UPnP has to be searched for.
const LADDER: [MappingProtocol; 3] =
    [MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp];

/// First and longest wait after a round in which no protocol was answered; it doubles in between. A router that is
/// switched on is found within minutes, and one that never answers gets a dozen packets an hour.
const WAIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// A mapping is renewed at half of its time, and at the latest after this: so a router that was restarted and forgot
/// it forwards again soon.
const RENEWED_AFTER_MAX: Duration = Duration::from_secs(600);

/// And at the earliest after this, however short a time the router grants.
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(5);

/// What is to be done with the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Ask(MappingProtocol),
    Renew,
}

#[derive(Debug)]
enum State {
    /// The protocol at this place of the ladder is tried at this time.
    Asking {
        rung: usize,
        at: Instant,
    },
    Held {
        renew: Instant,
        ends: Instant,
    },
}

/// One port and what a router makes of it.
#[derive(Debug)]
pub(super) struct Lease {
    state: State,
    /// Rounds in a row in which no protocol was answered.
    failures: u32,
}

impl Lease {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Asking { rung: 0, at: now }, failures: 0 }
    }

    /// What is to be done next, and when.
    pub(super) fn next(&self) -> (Instant, Job) {
        match self.state {
            State::Asking { rung, at } => (at, Job::Ask(LADDER[rung])),
            State::Held { renew, .. } => (renew, Job::Renew),
        }
    }

    /// The router forwards the port for so long.
    pub(super) fn granted(&mut self, lasts: Duration, now: Instant) {
        let after = (lasts / 2).clamp(RENEWED_AFTER_MIN, RENEWED_AFTER_MAX);
        self.state = State::Held { renew: now + after, ends: now + lasts };
        self.failures = 0;
    }

    /// The router did not do what it was asked. True if it thereby ceases to forward the port.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        match self.state {
            State::Asking { rung, .. } if rung + 1 < LADDER.len() => {
                self.state = State::Asking { rung: rung + 1, at: now };
                false
            }
            State::Asking { .. } => {
                let wait = WAIT.0.saturating_mul(1 << self.failures.min(16)).min(WAIT.1);
                self.failures = self.failures.saturating_add(1);
                self.state = State::Asking { rung: 0, at: now + wait };
                false
            }
            State::Held { ends, .. } if now < ends => {
                let after = ((ends - now) / 2).max(RENEWED_AFTER_MIN);
                self.state = State::Held { renew: (now + after).min(ends), ends };
                false
            }
            State::Held { .. } => {
                self.state = State::Asking { rung: 0, at: now };
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Everything fails until another round is due; how long until then.
    fn fails_a_round(lease: &mut Lease, now: Instant) -> Duration {
        for protocol in LADDER {
            assert_eq!(lease.next(), (now, Job::Ask(protocol)));
            assert!(!lease.failed(now));
        }
        lease.next().0 - now
    }

    #[test]
    fn a_router_that_never_answers_is_asked_ever_more_rarely_and_at_least_once_an_hour() {
        let mut now = Instant::now();
        let mut lease = Lease::new(now);
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(fails_a_round(&mut lease, now));
            now = lease.next().0;
        }
        let expected = [60, 120, 240, 480, 960, 1920, 3600, 3600].map(Duration::from_secs);
        assert_eq!(waits[..8], expected);
        assert!(waits[8..].iter().all(|wait| *wait == HOUR));
    }

    #[test]
    fn what_was_granted_is_renewed_at_half_of_its_time_within_bounds() {
        let now = Instant::now();
        for (granted, renewed) in [(0, 5), (4, 5), (120, 60), (3600, 600), (u64::from(u32::MAX), 600)] {
            let mut lease = Lease::new(now);
            lease.granted(Duration::from_secs(granted), now);
            assert_eq!(lease.next(), (now + Duration::from_secs(renewed), Job::Renew), "{granted}");
        }
    }

    #[test]
    fn a_mapping_that_cannot_be_renewed_is_lost_when_its_time_is_over_and_asked_for_anew() {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        lease.granted(Duration::from_secs(120), start);
        let mut renewals = 0;
        let lost = loop {
            let (at, job) = lease.next();
            assert_eq!(job, Job::Renew);
            renewals += 1;
            if lease.failed(at) {
                break at;
            }
        };
        assert_eq!(lost, start + Duration::from_secs(120));
        assert!((3..10).contains(&renewals), "{renewals}");
        assert_eq!(lease.next(), (lost, Job::Ask(MappingProtocol::Pcp)));
    }

    #[test]
    fn a_router_that_answered_once_is_asked_again_soon_when_it_goes() {
        let mut now = Instant::now();
        let mut lease = Lease::new(now);
        for _ in 0..9 {
            fails_a_round(&mut lease, now);
            now = lease.next().0;
        }
        lease.granted(HOUR, now);
        let lost = now + HOUR;
        assert!(lease.failed(lost));
        assert_eq!(fails_a_round(&mut lease, lost), WAIT.0);
    }
}
