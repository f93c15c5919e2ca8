//! When a router is asked to forward one port, how, and when again: pure.
//!
//! ```text
//! asking: PCP --failed--> NAT-PMP --failed--> UPnP --failed--> asking, after a wait that doubles
//!           '----------------'-- granted: held --'
//! held:   renewed at half of its time --failed--> again at half of what is left --ran out--> asking
//! ```
//!
//! Over IPv6 PCP alone is spoken.

use std::time::{Duration, Instant};

use crate::{error::Family, event::MappingProtocol};

/// How a router is asked; best first: PCP tells most and is the cheapest; UPnP has to be searched for.
fn ladder(family: Family) -> &'static [MappingProtocol] {
    match family {
        Family::V4 => &[MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp],
        Family::V6 => &[MappingProtocol::Pcp],
    }
}

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
    ladder: &'static [MappingProtocol],
    state: State,
    /// Rounds in a row in which no protocol was answered.
    failures: u32,
}

impl Lease {
    /// Of a port at an address of this family.
    pub(super) fn new(family: Family, now: Instant) -> Self {
        Self { ladder: ladder(family), state: State::Asking { rung: 0, at: now }, failures: 0 }
    }

    /// What is to be done next, and when.
    pub(super) fn next(&self) -> (Instant, Job) {
        match self.state {
            State::Asking { rung, at } => (at, Job::Ask(self.ladder[rung])),
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
            State::Asking { rung, .. } if rung + 1 < self.ladder.len() => {
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
        for protocol in lease.ladder {
            assert_eq!(lease.next(), (now, Job::Ask(*protocol)));
            assert!(!lease.failed(now));
        }
        lease.next().0 - now
    }

    #[test]
    fn a_router_that_never_answers_is_asked_ever_more_rarely_and_at_least_once_an_hour() {
        for family in [Family::V4, Family::V6] {
            let mut now = Instant::now();
            let mut lease = Lease::new(family, now);
            let mut waits = Vec::new();
            for _ in 0..40 {
                waits.push(fails_a_round(&mut lease, now));
                now = lease.next().0;
            }
            let expected = [60, 120, 240, 480, 960, 1920, 3600, 3600].map(Duration::from_secs);
            assert_eq!(waits[..8], expected);
            assert!(waits[8..].iter().all(|wait| *wait == HOUR));
        }
    }

    #[test]
    fn over_ipv6_a_router_is_asked_by_pcp_alone() {
        let now = Instant::now();
        let mut lease = Lease::new(Family::V6, now);
        assert_eq!(lease.next(), (now, Job::Ask(MappingProtocol::Pcp)));
        lease.failed(now);
        assert_eq!(lease.next(), (now + WAIT.0, Job::Ask(MappingProtocol::Pcp)));
    }

    #[test]
    fn what_was_granted_is_renewed_at_half_of_its_time_within_bounds() {
        let now = Instant::now();
        for (granted, renewed) in [(0, 5), (4, 5), (120, 60), (3600, 600), (u64::from(u32::MAX), 600)] {
            let mut lease = Lease::new(Family::V4, now);
            lease.granted(Duration::from_secs(granted), now);
            assert_eq!(lease.next(), (now + Duration::from_secs(renewed), Job::Renew), "{granted}");
        }
    }

    #[test]
    fn a_mapping_that_cannot_be_renewed_is_lost_when_its_time_is_over_and_asked_for_anew() {
        let start = Instant::now();
        let mut lease = Lease::new(Family::V4, start);
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
        let mut lease = Lease::new(Family::V4, now);
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
