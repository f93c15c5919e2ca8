//! What is looked for in the DHT, and when to look again. Pure: `now` is an argument.
//!
//! A lookup costs some twenty requests, which others answer. So what was not found is looked for ever more rarely, what
//! led to its peer is left alone, and only so many lookups run at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What was not found, or led nowhere, is looked for again after this, doubled up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What led to its peer is looked for again after this: the peer may have said something else since.
const CONTENT: Duration = Duration::from_secs(600);

/// Lookups that run at once. Others wait.
const RUNNING_MAX: usize = 16;

/// What is wanted: at most as many as are sought, and as namespaces are watched.
#[derive(Debug)]
struct Want {
    /// None while it is looked for.
    next: Option<Instant>,
    begun: Option<Instant>,
    pause: Duration,
}

/// By what is wanted.
#[derive(Debug)]
pub(crate) struct Wants<W> {
    wants: BTreeMap<W, Want>,
}

impl<W: Ord + Clone> Wants<W> {
    pub(crate) fn new() -> Self {
        Self { wants: BTreeMap::new() }
    }

    /// This is wanted from now on. Nothing happens if it was before.
    pub(crate) fn want(&mut self, what: W, now: Instant) {
        self.wants.entry(what).or_insert(Want { next: Some(now), begun: None, pause: AGAIN.0 });
    }

    /// This is not wanted any more. A lookup that is under way ends for nobody.
    pub(crate) fn forget(&mut self, what: &W) {
        self.wants.remove(what);
    }

    /// A lookup is over. `news`: it found what was not known; there may be more of it soon.
    pub(crate) fn ended(&mut self, what: &W, news: bool, now: Instant) {
        let Some(want) = self.wants.get_mut(what) else { return };
        if news {
            want.pause = AGAIN.0;
        }
        want.next = Some(now + want.pause);
        want.pause = if want.pause < AGAIN.1 { (want.pause * 2).min(AGAIN.1) } else { want.pause };
    }

    /// What was found led to the peer.
    pub(crate) fn satisfied(&mut self, what: &W, now: Instant) {
        let Some(want) = self.wants.get_mut(what) else { return };
        want.pause = CONTENT;
        want.next = want.next.map(|_| now + CONTENT);
    }

    /// The peer is missing: what was found holds no more. It is looked for at once, unless it was a moment ago.
    pub(crate) fn missed(&mut self, what: &W, now: Instant) {
        let Some(want) = self.wants.get_mut(what) else { return };
        if want.pause == CONTENT {
            want.pause = AGAIN.0;
            let apart = want.begun.map_or(now, |begun| begun + AGAIN.0);
            want.next = want.next.map(|_| apart.max(now));
        }
    }

    /// What is to be looked for now, if anything is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<W> {
        if self.running() >= RUNNING_MAX {
            return None;
        }
        let due = self.wants.iter_mut().filter(|(_, want)| want.next.is_some_and(|at| at <= now));
        let (what, want) = due.min_by_key(|(_, want)| want.next)?;
        (want.next, want.begun) = (None, Some(now));
        Some(what.clone())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.running() >= RUNNING_MAX {
            return None;
        }
        self.wants.values().filter_map(|want| want.next).min()
    }

    fn running(&self) -> usize {
        self.wants.values().filter(|want| want.next.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_not_found_is_looked_for_ever_more_rarely() {
        let (mut wants, begun) = (Wants::new(), Instant::now());
        wants.want("peer", begun);
        let mut now = begun;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(wants.poll(now), Some("peer"));
            assert_eq!(wants.poll(now), None, "it is looked for");
            wants.ended(&"peer", false, now);
            assert_eq!(wants.poll_timeout(), Some(now + pause * S));
            now += pause * S;
        }
    }

    #[test]
    fn what_led_to_its_peer_is_left_alone_until_the_peer_is_missing() {
        let (mut wants, now) = (Wants::new(), Instant::now());
        wants.want("peer", now);
        wants.poll(now);
        wants.ended(&"peer", true, now);
        wants.satisfied(&"peer", now);
        assert_eq!(wants.poll_timeout(), Some(now + CONTENT));
        wants.missed(&"peer", now + 30 * S);
        assert_eq!(wants.poll(now + 30 * S), Some("peer"));
        wants.missed(&"peer", now + 30 * S);
        wants.ended(&"peer", false, now + 31 * S);
        assert_eq!(wants.poll_timeout(), Some(now + 32 * S), "being missing is said once");
    }

    #[test]
    fn only_so_many_lookups_run_at_once_and_the_one_that_waits_longest_is_next() {
        let (mut wants, now) = (Wants::new(), Instant::now());
        for number in 0..=RUNNING_MAX {
            wants.want(number, now - S * number as u32);
        }
        assert!((0..RUNNING_MAX).all(|_| wants.poll(now).is_some_and(|number| number > 0)));
        assert_eq!((wants.poll(now), wants.poll_timeout()), (None, None));
        wants.ended(&3, false, now);
        assert_eq!(wants.poll(now), Some(0));
    }

    #[test]
    fn while_there_is_news_it_is_looked_for_often() {
        let (mut wants, now) = (Wants::new(), Instant::now());
        wants.want("namespace", now);
        for _ in 0..5 {
            wants.poll(now);
            wants.ended(&"namespace", false, now);
        }
        wants.ended(&"namespace", true, now);
        assert_eq!(wants.poll_timeout(), Some(now + S));
    }
}
