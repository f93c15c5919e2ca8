//! What goes wrong is said once, and while it goes on ever more rarely, with how often it happened meanwhile. Pure.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::said::Whose;

/// From the first word on a trouble to the next, doubled each time up to the second: whoever looks into the log after a
/// night finds it, and a day of it is ten lines.
const PAUSE: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(6 * 3600));

/// What did not happen for so long is over: the next time it is said as if it were the first.
const OVER_AFTER: Duration = Duration::from_secs(3600);

/// Troubles of one kind that are told apart, of those whom we know, of those who were let in and of strangers each.
/// Identities are free: more than these are told as a crowd.
const SUBJECTS_MAX: usize = 16;

/// Where there are as many, whoever was silent for so long makes room: a crowd brings a line in two minutes, and not one
/// for each identity.
const SILENT: Duration = Duration::from_secs(1800);

/// Troubles in all; there are some thirty kinds.
const TROUBLES_MAX: usize = 1024;

/// The troubles that were said and are not over.
#[derive(Default)]
pub(super) struct Troubles {
    /// By kind, by whose it is and by whom or what it is about; a crowd has the name [`CROWD`]. Bounded by
    /// [`TROUBLES_MAX`].
    known: BTreeMap<Key, Trouble>,
}

type Key = (&'static str, Whose, String);

/// No peer and no service is called that.
const CROWD: &str = "*";

struct Trouble {
    since: Instant,
    last: Instant,
    said: Instant,
    pause: Duration,
    untold: u64,
    /// It is over. What begins soon after that is told only once the first pause is over: something that comes and goes
    /// all the time is no line each time.
    over: bool,
    /// It was told since it began.
    told: bool,
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
            Self::First | Self::Not => Ok(()),
            Self::Crowd { count: 0 } => f.write_str(" (one of many; the others are summed up)"),
            Self::Again { count, since } => write!(f, " ({count} times more; for {})", span(*since)),
            Self::Crowd { count } => write!(f, " (one of many; {count} others were not told of)"),
        }
    }
}

impl Troubles {
    /// It happened (again).
    pub(super) fn meet(
        &mut self,
        kind: &'static str,
        whose: Whose,
        subject: &str,
        now: Instant,
    ) -> Telling {
        self.known.retain(|_, trouble| now < trouble.last + OVER_AFTER.max(trouble.pause));
        let key = (kind, whose, subject.to_owned());
        if let Some(trouble) = self.known.get_mut(&key) {
            return trouble.again(now);
        }
        if self.has_room(kind, whose, now) {
            self.known.insert(key, Trouble::new(now));
            return Telling::First;
        }
        match self.known.get_mut(&(kind, whose, CROWD.to_owned())) {
            Some(crowd) => match crowd.again(now) {
                Telling::Again { count, .. } => Telling::Crowd { count: count - 1 },
                other => other,
            },
            None => {
                self.known.insert((kind, whose, CROWD.to_owned()), Trouble::new(now));
                Telling::Crowd { count: 0 }
            }
        }
    }

    /// Whether one more subject is told by itself; who was silent for long makes room for it.
    fn has_room(&mut self, kind: &'static str, whose: Whose, now: Instant) -> bool {
        let all = (kind, whose, String::new())..=(kind, whose, "\u{10ffff}".to_owned());
        let others = self.known.range(all).filter(|(key, _)| key.2 != CROWD);
        let (count, silent) = others.fold((0, None), |(count, silent), (key, trouble)| {
            let longest = silent.filter(|(last, _)| *last <= trouble.last);
            (count + 1, longest.or(Some((trouble.last, key))))
        });
        if count < SUBJECTS_MAX {
            return self.known.len() < TROUBLES_MAX;
        }
        let silent = silent.filter(|(last, _)| *last + SILENT <= now).map(|(_, key)| key.clone());
        silent.is_some_and(|key| self.known.remove(&key).is_some())
    }

    /// For how long it lasts, if it does.
    pub(super) fn lasts(&self, kind: &'static str, subject: &str, now: Instant) -> Option<Duration> {
        let of = |whose| self.known.get(&(kind, whose, subject.to_owned()));
        let trouble = Whose::ALL.into_iter().filter_map(of).find(|trouble| !trouble.over)?;
        Some(now.saturating_duration_since(trouble.since))
    }

    /// It is over, if it was said: since when it lasted.
    pub(super) fn over(&mut self, kind: &'static str, subject: &str, now: Instant) -> Option<Duration> {
        let mut lasted = None;
        // Whom it is about may have been a stranger when it began.
        for whose in Whose::ALL {
            let trouble = self.known.get_mut(&(kind, whose, subject.to_owned()));
            let Some(trouble) = trouble.filter(|trouble| !trouble.over) else { continue };
            trouble.over = true;
            trouble.pause = PAUSE.0;
            let since = now.saturating_duration_since(trouble.since);
            lasted = lasted.max(trouble.told.then_some(since));
        }
        lasted
    }
}

impl Trouble {
    fn new(now: Instant) -> Self {
        let (since, last, said, pause) = (now, now, now, PAUSE.0);
        Self { since, last, said, pause, untold: 0, over: false, told: true }
    }

    fn again(&mut self, now: Instant) -> Telling {
        self.last = now;
        let begins = std::mem::take(&mut self.over);
        if begins && std::mem::take(&mut self.told) {
            (self.since, self.untold) = (now, 0);
        }
        self.untold += 1;
        if now < self.said + self.pause {
            return Telling::Not;
        }
        let (count, since) = (std::mem::take(&mut self.untold), now - self.since);
        if begins && count == 1 {
            *self = Self::new(now);
            return Telling::First;
        }
        (self.said, self.pause, self.told) = (now, (self.pause * 2).min(PAUSE.1), true);
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

/// By how much two clocks differ, in words. What is told of a clock came over a network, and is of no use to the second.
pub(crate) fn clocks_apart(seconds: i64) -> String {
    let minutes = seconds.unsigned_abs().saturating_add(30) / 60;
    span(Duration::from_secs(minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_second_more_or_less_between_two_clocks_is_told_alike() {
        for seconds in [7171, 7199, 7200, -7201, 7229] {
            assert_eq!(clocks_apart(seconds), "2 h", "{seconds}");
        }
        assert_eq!(clocks_apart(-91), "2 min");
    }

    #[test]
    fn what_goes_wrong_is_said_once_and_then_summed_up_ever_more_rarely() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let mut said = Vec::new();
        for minute in 0..24 * 60 {
            let telling = troubles.meet("unreachable", Whose::Ours, "ann", start + MINUTE * minute);
            if telling.is_told() {
                said.push((minute, telling.to_string()));
            }
        }
        let minutes: Vec<u32> = said.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(minutes, [0, 10, 30, 70, 150, 310, 630, 990, 1350]);
        assert_eq!(said[1].1, " (10 times more; for 10 min)");
        let over = troubles.over("unreachable", "ann", start + MINUTE * 1440);
        assert_eq!(over, Some(MINUTE * 1440));
        assert_eq!(
            troubles.meet("unreachable", Whose::Ours, "ann", start + MINUTE * 1441),
            Telling::First
        );
    }

    #[test]
    fn what_did_not_happen_for_an_hour_is_said_as_for_the_first_time() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        troubles.meet("refused", Whose::Ours, "ann", start);
        assert_eq!(
            troubles.meet("refused", Whose::Ours, "ann", start + MINUTE * 59),
            Telling::Again { count: 1, since: MINUTE * 59 }
        );
        assert_eq!(troubles.meet("refused", Whose::Ours, "ann", start + MINUTE * 119), Telling::First);
    }

    #[test]
    fn what_comes_and_goes_all_the_time_is_a_line_in_ten_minutes_and_its_end_too() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let (mut begun, mut over) = (0, 0);
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            begun += usize::from(troubles.meet("target_failed", Whose::Ours, "web", now).is_told());
            over += usize::from(troubles.over("target_failed", "web", now).is_some());
        }
        assert_eq!((begun, over), (6, 6));
    }

    #[test]
    fn a_crowd_is_told_at_once_and_then_as_one_and_costs_no_more_memory_than_the_limit() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let (mut told, strangers) = (Vec::new(), Whose::Strangers);
        for second in 0..100_000_u32 {
            let now = start + Duration::from_secs(1) * second;
            let telling = troubles.meet("refused", strangers, &second.to_string(), now);
            told.extend(telling.is_told().then_some((second, telling)));
        }
        assert_eq!(told.get(SUBJECTS_MAX), Some(&(16, Telling::Crowd { count: 0 })));
        assert!(told.len() < 1000, "{} lines in 28 h", told.len());
        assert!(troubles.known.len() <= SUBJECTS_MAX + 1);
        assert_eq!(troubles.meet("other", strangers, "ann", start), Telling::First, "no kind is hidden");
    }

    #[test]
    fn all_kinds_together_are_no_more_than_the_limit_and_a_crowd_for_each() {
        const KINDS: [&str; 40] = {
            let mut kinds = [""; 40];
            let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
            let mut at = 0;
            while at < kinds.len() {
                kinds[at] = letters.split_at(at).1;
                at += 1;
            }
            kinds
        };
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        for kind in KINDS {
            for (whose, number) in
                Whose::ALL.into_iter().flat_map(|whose| (0..30).map(move |n| (whose, n)))
            {
                troubles.meet(kind, whose, &format!("peer {number}"), now);
            }
        }
        let crowds = KINDS.len() * Whose::ALL.len();
        let all = troubles.known.len();
        assert!((TROUBLES_MAX..=TROUBLES_MAX + crowds).contains(&all), "{all}");
        // Who is told of no more by itself is told of as one of a crowd.
        let last = *KINDS.last().unwrap_or(&"");
        assert_eq!(troubles.meet(last, Whose::Ours, "peer 1", now), Telling::Not);
    }

    #[test]
    fn strangers_in_crowds_do_not_silence_the_line_about_a_friend_or_a_guest() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        for stranger in 0..1000 {
            troubles.meet("access_refused", Whose::Strangers, &stranger.to_string(), now);
        }
        for whose in [Whose::Ours, Whose::LetIn] {
            assert_eq!(troubles.meet("access_refused", whose, "ann", now), Telling::First);
        }
    }

    #[test]
    fn whoever_was_silent_for_long_makes_room_for_the_next() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        for stranger in 0..=SUBJECTS_MAX {
            troubles.meet("access_refused", Whose::Strangers, &stranger.to_string(), start);
        }
        let next = |troubles: &mut Troubles, minute| {
            troubles.meet("access_refused", Whose::Strangers, "next", start + MINUTE * minute)
        };
        assert_eq!(next(&mut troubles, 9), Telling::Not);
        assert_eq!(next(&mut troubles, 30), Telling::First);
    }
}
