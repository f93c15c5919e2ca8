//! What goes wrong is said once, and while it goes on ever more rarely, with how often it happened meanwhile. Pure.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// From the first word on a trouble to the next, doubled each time up to the second: whoever looks into the log after a
/// night finds it, and a day of it is ten lines.
const PAUSE: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(6 * 3600));

/// What did not happen for so long is over: the next time it is said as if it were the first.
const OVER_AFTER: Duration = Duration::from_secs(3600);

/// Troubles of one kind that are told apart. Identities are free: more than these are told as a crowd.
const SUBJECTS_MAX: usize = 16;

/// Troubles in all; there are some twenty kinds.
const TROUBLES_MAX: usize = 512;

/// The troubles that were said and are not over.
#[derive(Default)]
pub(super) struct Troubles {
    /// By kind and by whom or what it is about; the crowd of a kind has an empty name. Bounded by [`TROUBLES_MAX`].
    known: BTreeMap<(&'static str, String), Trouble>,
}

struct Trouble {
    since: Instant,
    last: Instant,
    said: Instant,
    pause: Duration,
    untold: u64,
}

/// How a trouble is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// With its cause and remedy.
    First,
    /// Again, with how often it happened since that was said, and for how long it goes on.
    Again {
        count: u64,
        since: Duration,
    },
    /// For many at once; so many were not told before.
    Crowd {
        count: u64,
    },
    Not,
}

impl Telling {
    /// Whether it is said at all.
    pub(super) fn is_told(self) -> bool {
        self != Self::Not
    }
}

impl fmt::Display for Telling {
    /// What is appended to the sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First | Self::Not | Self::Crowd { count: 0 } => Ok(()),
            Self::Again { count, since } => write!(f, " ({count} times more; for {})", span(*since)),
            Self::Crowd { count } => write!(f, " (one of many; {count} others were not told of)"),
        }
    }
}

impl Troubles {
    /// It happened (again).
    pub(super) fn meet(&mut self, kind: &'static str, subject: &str, now: Instant) -> Telling {
        self.known.retain(|_, trouble| now < trouble.last + OVER_AFTER.max(trouble.pause));
        let crowded = {
            let of_kind = (kind, String::new())..=(kind, "\u{10ffff}".to_owned());
            let others = self.known.range(of_kind).count();
            others >= SUBJECTS_MAX || self.known.len() >= TROUBLES_MAX
        };
        let key = (kind, subject.to_owned());
        if let Some(trouble) = self.known.get_mut(&key) {
            return trouble.again(now);
        }
        if !crowded {
            self.known.insert(key, Trouble::new(now));
            return Telling::First;
        }
        let crowd = self.known.entry((kind, String::new())).or_insert_with(|| Trouble::new(now));
        match crowd.again(now) {
            Telling::Again { count, .. } => Telling::Crowd { count: count - 1 },
            other => other,
        }
    }

    /// For how long it lasts, if it does.
    pub(super) fn lasts(&self, kind: &'static str, subject: &str, now: Instant) -> Option<Duration> {
        let trouble = self.known.get(&(kind, subject.to_owned()))?;
        Some(now.saturating_duration_since(trouble.since))
    }

    /// It is over, if it was said: since when it lasted.
    pub(super) fn over(&mut self, kind: &'static str, subject: &str, now: Instant) -> Option<Duration> {
        let trouble = self.known.remove(&(kind, subject.to_owned()))?;
        Some(now.saturating_duration_since(trouble.since))
    }
}

impl Trouble {
    fn new(now: Instant) -> Self {
        Self { since: now, last: now, said: now, pause: PAUSE.0, untold: 0 }
    }

    fn again(&mut self, now: Instant) -> Telling {
        self.last = now;
        self.untold += 1;
        if now < self.said + self.pause {
            return Telling::Not;
        }
        let (count, since) = (std::mem::take(&mut self.untold), now - self.since);
        (self.said, self.pause) = (now, (self.pause * 2).min(PAUSE.1));
        Telling::Again { count, since }
    }
}

/// A duration as people say it.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_goes_wrong_is_said_once_and_then_summed_up_ever_more_rarely() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let mut said = Vec::new();
        for minute in 0..24 * 60 {
            let telling = troubles.meet("unreachable", "ann", start + MINUTE * minute);
            if telling.is_told() {
                said.push((minute, telling.to_string()));
            }
        }
        let minutes: Vec<u32> = said.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(minutes, [0, 10, 30, 70, 150, 310, 630, 990, 1350]);
        assert_eq!(said[1].1, " (10 times more; for 10 min)");
        let over = troubles.over("unreachable", "ann", start + MINUTE * 1440);
        assert_eq!(over, Some(MINUTE * 1440));
        assert_eq!(troubles.meet("unreachable", "ann", start + MINUTE * 1441), Telling::First);
    }

    #[test]
    fn what_did_not_happen_for_an_hour_is_said_as_for_the_first_time() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        troubles.meet("refused", "ann", start);
        assert_eq!(
            troubles.meet("refused", "ann", start + MINUTE * 59),
            Telling::Again { count: 1, since: MINUTE * 59 }
        );
        assert_eq!(troubles.meet("refused", "ann", start + MINUTE * 119), Telling::First);
    }

    #[test]
    fn a_crowd_is_told_as_one_and_costs_no_more_memory_than_the_limit() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let mut told = 0;
        for second in 0..100_000_u32 {
            let now = start + Duration::from_secs(1) * second;
            told += usize::from(troubles.meet("refused", &second.to_string(), now).is_told());
        }
        assert!(told < 1000, "{told} lines in 28 h");
        assert!(troubles.known.len() <= SUBJECTS_MAX + 1);
        assert_eq!(troubles.meet("other", "ann", start), Telling::First, "no other kind is hidden");
    }
}
