//! What a circuit has carried, so that another one is made before its relay ends it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::mpsc;

use crate::path::ConnectionId;

/// Below this limit, what a relay counts beside payload weighs: handshakes, heads, pings.
const SMALL_BYTES: u64 = 16 << 20;

/// Where a meter says that its circuit has carried nearly all it may. Each says it once.
pub(crate) type NearlySpent = mpsc::UnboundedSender<ConnectionId>;

/// Shared by all streams of one circuit.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: ConnectionId,
    carried: AtomicU64,
    most: u64,
    tell: NearlySpent,
}

impl Meter {
    /// `limit`: bytes that the relay forwards, both directions added.
    pub(crate) fn new(connection: ConnectionId, limit: u64, tell: NearlySpent) -> Self {
        let most = if limit < SMALL_BYTES { limit / 2 } else { limit / 4 * 3 };
        Self(Arc::new(Inner { connection, carried: AtomicU64::new(0), most, tell }))
    }

    /// So many bytes of payload were sent or received.
    pub(crate) fn add(&self, bytes: usize) {
        let Inner { connection, carried, most, tell } = &*self.0;
        let before = carried.fetch_add(bytes as u64, Relaxed);
        if before <= *most && before + bytes as u64 > *most {
            // Without a driver there is no node any more.
            let _ = tell.send(*connection);
        }
    }
}

/// Two descriptions of a connection do not differ for what it carried.
impl PartialEq for Meter {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Meter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_once_that_a_circuit_has_carried_nearly_all_it_may() {
        for (limit, spent_at) in [(128 << 10, 64 << 10), (1 << 30, 3 << 28)] {
            let (tell, mut told) = mpsc::unbounded_channel();
            let id = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1));
            let meter = Meter::new(id, limit, tell);
            meter.add(spent_at);
            assert!(told.try_recv().is_err());
            meter.clone().add(1);
            assert_eq!(told.try_recv(), Ok(id));
            meter.add(spent_at);
            assert!(told.try_recv().is_err());
        }
    }
}
