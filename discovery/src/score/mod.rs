//! How peers behave, and where they are not. Scores are of peers, and fade. Bans are of addresses: see [`Bans`].

mod bans;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

pub use self::bans::{BAN_FIRST, BAN_MAX, BANS_MAX, BANS_PER_PEER_MAX, Bans};

/// After this time a deed counts half.
pub const HALF_LIFE: Duration = Duration::from_secs(30 * 60);

/// Peers that have a score. Beyond it who has done least is forgotten.
pub const SCORES_MAX: usize = 4096;

/// Nobody gets better or worse than this: whoever was good for long may not do as he likes for as long.
pub const SCORE_MAX: f64 = 100.0;

/// Whoever falls below is shunned: 20 bad records, or five false contacts, at once.
pub const SHUNNED_BELOW: f64 = -40.0;

/// Whoever is shunned remains so until the score is above this.
pub const FORGIVEN_ABOVE: f64 = -20.0;

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// A dial led to it.
    Reached,
    /// It answered a question.
    Answered,
    /// A dial or a question failed.
    Failed,
    /// It sent a record that no honest peer sends: see `Refusal::is_innocent` of records.
    BadRecord,
    /// It named an address at which another peer answered, or signed two records with one number.
    Lied,
}

impl Deed {
    fn worth(self) -> f64 {
        match self {
            Self::Reached | Self::Answered => 1.0,
            Self::Failed => -1.0,
            Self::BadRecord => -2.0,
            Self::Lied => -8.0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Score {
    value: f64,
    at: Instant,
    shunned: bool,
}

impl Score {
    fn value(&self, now: Instant) -> f64 {
        let halves = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.value * (-halves).exp2()
    }

    fn is_shunned(&self, now: Instant) -> bool {
        self.shunned && self.value(now) < FORGIVEN_ABOVE
    }
}

/// How peers behave.
#[derive(Debug, Default)]
pub struct Scores {
    of: BTreeMap<PeerId, Score>,
}

impl Scores {
    /// Counts what a peer did. True if it is shunned from now on and was not before.
    pub fn count(&mut self, peer: PeerId, deed: Deed, now: Instant) -> bool {
        if self.of.len() >= SCORES_MAX && !self.of.contains_key(&peer) {
            self.make_room(now);
        }
        let score = self.of.entry(peer).or_insert(Score { value: 0.0, at: now, shunned: false });
        let was = score.is_shunned(now);
        let value = (score.value(now) + deed.worth()).clamp(-SCORE_MAX, SCORE_MAX);
        // Rounded, so that the seconds between the deeds make no difference.
        let shunned = was || value.round() <= SHUNNED_BELOW;
        *score = Score { value, at: now, shunned };
        shunned && !was
    }

    /// How it behaves: 0 for one that did nothing, at most [`SCORE_MAX`] either way.
    pub fn score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.of.get(peer).map_or(0.0, |score| score.value(now))
    }

    /// Whether nothing is asked of it, and it is let into no table. It may connect.
    pub fn is_shunned(&self, peer: &PeerId, now: Instant) -> bool {
        self.of.get(peer).is_some_and(|score| score.is_shunned(now))
    }

    fn make_room(&mut self, now: Instant) {
        let deeds = |score: &Score| score.value(now).abs();
        let least = self.of.iter().min_by(|(_, a), (_, b)| deeds(a).total_cmp(&deeds(b)));
        let least = least.map(|(peer, _)| *peer);
        least.map(|peer| self.of.remove(&peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn deeds_fade_by_half_in_half_an_hour() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        (0..8).for_each(|_| _ = scores.count(peer, Deed::Answered, now));
        assert!((scores.score(&peer, now) - 8.0).abs() < 1e-9);
        assert!((scores.score(&peer, now + HALF_LIFE) - 4.0).abs() < 1e-9);
        scores.count(peer, Deed::Failed, now + 2 * HALF_LIFE);
        assert!((scores.score(&peer, now + 2 * HALF_LIFE) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn whoever_sends_twenty_bad_records_or_lies_five_times_is_shunned_until_it_fades() {
        for (deed, times) in [(Deed::BadRecord, 20), (Deed::Lied, 5)] {
            let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
            let shunned: Vec<bool> = (0..times).map(|_| scores.count(peer, deed, now)).collect();
            assert_eq!(shunned.iter().position(|shunned| *shunned), Some(times - 1));
            assert!(!scores.count(peer, deed, now), "it is already");
            assert!(scores.is_shunned(&peer, now + HALF_LIFE));
            assert!(!scores.is_shunned(&peer, now + 2 * HALF_LIFE));
        }
    }

    #[test]
    fn failures_alone_are_nobodys_fault_for_long() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        for minute in 0..600 {
            assert!(!scores.count(peer, Deed::Failed, now + 120 * minute * S));
        }
    }

    #[test]
    fn a_good_past_is_worth_only_so_much() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        (0..100_000).for_each(|_| _ = scores.count(peer, Deed::Answered, now));
        assert!((scores.score(&peer, now) - SCORE_MAX).abs() < 1e-9);
        let lies = (1..).find(|_| scores.count(peer, Deed::Lied, now));
        assert_eq!(lies, Some(18));
    }

    #[test]
    fn a_crowd_of_peers_that_did_little_does_not_wash_away_who_did_much() {
        let (mut scores, bad, now) = (Scores::default(), PeerId::random(), Instant::now());
        (0..5).for_each(|_| _ = scores.count(bad, Deed::Lied, now));
        for _ in 0..=SCORES_MAX {
            scores.count(PeerId::random(), Deed::Failed, now);
        }
        assert_eq!(scores.of.len(), SCORES_MAX);
        assert!(scores.is_shunned(&bad, now));
    }
}
