//! What whoever asks the node is told: what happened lately, and what happens from now on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value};
use tokio::sync::broadcast;

use super::said::Whose;

/// Events that are kept, and that a watcher may lag behind: some hundred bytes each.
pub(super) const RECENT_MAX: usize = 256;
pub(crate) const LAG_MAX: usize = 1024;

/// Said every second: it tells who watches how fast bytes flow, and nothing of what happened.
const PASSING: &str = "relay_traffic";

/// Events of one name, of those whom this node knows, or of strangers: none takes all the room.
type Kind = (String, Whose);

pub(super) struct Recent {
    /// The latest events, the oldest first; bounded by [`RECENT_MAX`].
    lines: VecDeque<(Kind, Arc<str>)>,
    counts: BTreeMap<Kind, usize>,
    live: broadcast::Sender<Arc<str>>,
}

impl Default for Recent {
    fn default() -> Self {
        let live = broadcast::Sender::new(LAG_MAX);
        Self { lines: VecDeque::new(), counts: BTreeMap::new(), live }
    }
}

impl Recent {
    /// An event, as its fields, and as it is written.
    pub(super) fn add(&mut self, fields: &Map<String, Value>, whose: Whose, line: Arc<str>) {
        let name = fields.get("event").and_then(Value::as_str).unwrap_or_default();
        if name != PASSING {
            self.keep((name.to_owned(), whose), line.clone());
        }
        // Without a watcher there is nobody to tell.
        let _ = self.live.send(line);
    }

    /// Where all room is taken, the oldest of the kind that there is most of goes.
    fn keep(&mut self, kind: Kind, line: Arc<str>) {
        *self.counts.entry(kind.clone()).or_default() += 1;
        self.lines.push_back((kind, line));
        if self.lines.len() <= RECENT_MAX {
            return;
        }
        let most = self.counts.iter().max_by_key(|(_, count)| **count).map(|(kind, _)| kind.clone());
        let oldest = most.and_then(|most| self.lines.iter().position(|(kind, _)| *kind == most));
        let Some((kind, _)) = oldest.and_then(|at| self.lines.remove(at)) else { return };
        if let Some(count) = self.counts.get_mut(&kind) {
            *count -= 1;
        }
        self.counts.retain(|_, count| *count > 0);
    }

    /// What happened lately, and whatever happens from now on. Who lags behind loses the oldest.
    pub(super) fn watch(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        (self.lines.iter().map(|(_, line)| line.clone()).collect(), self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(recent: &mut Recent, name: &str, whose: Whose, line: &str) {
        let fields = Map::from_iter([("event".to_owned(), name.into())]);
        recent.add(&fields, whose, line.into());
    }

    fn kept(recent: &Recent, text: &str) -> usize {
        recent.watch().0.iter().filter(|line| line.as_ref() == text).count()
    }

    #[test]
    fn crowds_of_strangers_push_out_neither_what_failed_nor_what_our_peers_did() {
        let mut recent = Recent::default();
        add(&mut recent, "reservation_failed", Whose::Ours, "failed");
        add(&mut recent, "connection_opened", Whose::Ours, "friend");
        for _ in 0..10_000 {
            add(&mut recent, "connection_opened", Whose::Strangers, "stranger");
            add(&mut recent, "connection_closed", Whose::Strangers, "gone");
        }
        assert_eq!((kept(&recent, "failed"), kept(&recent, "friend")), (1, 1));
        assert_eq!((recent.lines.len(), recent.counts.len()), (RECENT_MAX, 4));
    }

    #[test]
    fn what_a_relay_says_every_second_is_told_to_who_watches_and_not_kept() {
        let mut recent = Recent::default();
        let (before, mut live) = recent.watch();
        add(&mut recent, "relay_traffic", Whose::Strangers, "bytes");
        assert!(before.is_empty() && recent.watch().0.is_empty());
        assert_eq!(live.try_recv().as_deref(), Ok("bytes"));
    }
}
