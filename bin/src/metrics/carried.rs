//! Bytes that streams have carried: of those that ended as they were told, of those that live as they stand in a status.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;
use punchline_bridge::{Event, StreamId, status::StreamStatus};

use super::{
    families::{Book, Counters, counters},
    words,
};

/// Streams whose end was not told although they are gone: events that came too fast are lost. Of more, those are
/// forgotten that a status does not show. Twice what peers may have by default.
const SEEN_MAX: usize = 4096;

/// Of a stream, or of what was counted of one: sent and received, directly and through relays.
type Bytes = [u64; 4];

const LABELS: [[(&str, &str); 2]; 4] = [
    [("direction", "sent"), ("path", "direct")],
    [("direction", "sent"), ("path", "relayed")],
    [("direction", "received"), ("path", "direct")],
    [("direction", "received"), ("path", "relayed")],
];

type Key = (PeerId, StreamId);

pub(super) struct Carried {
    bytes: Counters<2>,
    seen: Mutex<Seen>,
}

/// What was counted of streams that may go on.
#[derive(Default)]
struct Seen {
    of_stream: HashMap<Key, Bytes>,
    /// Those that ended since a status was asked for, which may show them alive.
    ended_meanwhile: HashSet<Key>,
}

impl Default for Carried {
    fn default() -> Self {
        let bytes = counters([("direction", &["sent", "received"]), words::PATH]);
        Self { bytes, seen: Mutex::default() }
    }
}

impl Carried {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add_bytes(
            "stream",
            "Bytes of payload that streams carried, by direction and path; live streams are looked at when this is \
             asked for. Divide those with path=\"direct\" by all: the part that no relay forwarded",
            self.bytes.clone(),
        );
    }

    pub(super) fn about_to_observe(&self) {
        self.seen().ended_meanwhile.clear();
    }

    pub(super) fn observe(&self, streams: &[StreamStatus]) {
        let mut seen = self.seen();
        for stream in streams {
            let key = (stream.peer, stream.stream);
            if !seen.ended_meanwhile.contains(&key) {
                let (sent, received) = (stream.sent_bytes, stream.received_bytes);
                let bytes = [sent.direct, sent.relayed, received.direct, received.relayed];
                self.count(bytes, seen.of_stream.insert(key, bytes));
            }
        }
        if seen.of_stream.len() > SEEN_MAX {
            let live: HashSet<Key> = streams.iter().map(|stream| (stream.peer, stream.stream)).collect();
            seen.of_stream.retain(|key, _| live.contains(key));
        }
    }

    pub(super) fn closed(&self, event: &Event) {
        let Event::StreamClosed {
            peer,
            stream,
            sent_direct_bytes,
            sent_relayed_bytes,
            received_direct_bytes,
            received_relayed_bytes,
            ..
        } = event
        else {
            return;
        };
        let key = (*peer, *stream);
        let bytes =
            [*sent_direct_bytes, *sent_relayed_bytes, *received_direct_bytes, *received_relayed_bytes];
        let mut seen = self.seen();
        // Each status clears it; while nobody asks for one, there is none that could show them.
        if seen.ended_meanwhile.len() < SEEN_MAX {
            seen.ended_meanwhile.insert(key);
        }
        self.count(bytes, seen.of_stream.remove(&key));
    }

    fn count(&self, bytes: Bytes, before: Option<Bytes>) {
        for ((labels, bytes), before) in LABELS.iter().zip(bytes).zip(before.unwrap_or_default()) {
            self.bytes.get_or_create(labels).inc_by(bytes.saturating_sub(before));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use punchline_bridge::{Path, Service, path::Direction, status::ByPath};

    use super::*;

    fn streams(from: u16, count: usize, service: &Service) -> Vec<StreamStatus> {
        let peer = PeerId::random();
        let stream = |number: usize| {
            let [high, low] = (number as u16).to_be_bytes();
            let mut id = [from as u8; 16];
            [id[0], id[1]] = [high, low];
            StreamStatus {
                stream: StreamId::from_bytes(id),
                peer,
                service: service.clone(),
                direction: Direction::Inbound,
                path: Path::Direct,
                waits: false,
                moves: 0,
                sent_bytes: ByPath::default(),
                received_bytes: ByPath::default(),
            }
        };
        (0..count).map(stream).collect()
    }

    #[test]
    fn of_streams_whose_end_was_not_told_no_more_are_remembered_than_there_may_be() {
        let carried = Carried::default();
        let service: Service = "web".parse().expect("a name");
        carried.observe(&streams(1, SEEN_MAX, &service));
        assert_eq!(carried.seen().of_stream.len(), SEEN_MAX);
        carried.observe(&streams(2, 3, &service));
        assert_eq!(carried.seen().of_stream.len(), 3, "those that a status shows");
    }
}
