//! Which queue a message goes to: by response id if it has one, else by kind.
//!
//! Every queue is bounded. When one is full, announcements are dropped (the peer or another
//! one will announce again) and anything else ends the connection, as upstream does; our
//! bounds are smaller than upstream's 131,072 transactions, see [`ROUTE_MESSAGES_MAX`].

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::wire::{BLANK_ROUTE_ID, KaspadMessage, PayloadKind, ProtocolError};

/// Most routes of one session. Upstream's node has about thirty flows.
pub const ROUTES_MAX: usize = 64;

/// Most messages one route may hold: upstream's number for announcements. A larger request is
/// cut down to it, so that no caller can make one peer's backlog unbounded.
pub const ROUTE_MESSAGES_MAX: usize = 4096;

/// A bounded queue of the messages of some kinds, and of the answers to its requests.
/// Dropping it ends the subscription.
#[derive(Debug)]
pub struct Route {
    id: u32,
    receiver: mpsc::Receiver<KaspadMessage>,
}

impl Route {
    /// The id that requests of this route carry; unique in this process and never 0.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next message, or `None` when the session has ended. Cancel-safe.
    pub async fn receive(&mut self) -> Option<KaspadMessage> {
        self.receiver.recv().await
    }
}

/// A subscription was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// Another live route takes this kind.
    #[error("{kind} already has a route")]
    Taken {
        /// The kind.
        kind: PayloadKind,
    },
    /// The session itself answers this kind.
    #[error("{kind} is answered by the session itself")]
    Reserved {
        /// The kind.
        kind: PayloadKind,
    },
    /// The session has as many routes as it may.
    #[error("this session already has {limit} routes")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

#[derive(Debug)]
struct Slot {
    sender: mpsc::Sender<KaspadMessage>,
    kinds: Vec<PayloadKind>,
    limit: usize,
}

/// The routes of one session, by id.
#[derive(Debug, Default)]
pub(crate) struct Router {
    slots: HashMap<u32, Slot>,
    by_kind: HashMap<PayloadKind, u32>,
    ended: bool,
}

impl Router {
    pub(crate) fn subscribe(
        &mut self,
        kinds: &[PayloadKind],
        capacity: usize,
    ) -> Result<Route, SubscribeError> {
        self.forget_dropped();
        if self.ended {
            return Err(SubscribeError::Ended);
        }
        if self.slots.len() >= ROUTES_MAX {
            return Err(SubscribeError::TooMany { limit: ROUTES_MAX });
        }
        for &kind in kinds {
            if is_reserved(kind) {
                return Err(SubscribeError::Reserved { kind });
            }
            if self.by_kind.contains_key(&kind) {
                return Err(SubscribeError::Taken { kind });
            }
        }
        Ok(self.insert(kinds, capacity.clamp(1, ROUTE_MESSAGES_MAX)))
    }

    fn insert(&mut self, kinds: &[PayloadKind], limit: usize) -> Route {
        let id = next_id();
        let (sender, receiver) = mpsc::channel(limit);
        self.by_kind.extend(kinds.iter().map(|&kind| (kind, id)));
        self.slots.insert(id, Slot { sender, kinds: kinds.to_vec(), limit });
        Route { id, receiver }
    }

    /// Gives the message to its route; gives it back if none wants its kind.
    pub(crate) fn route(
        &mut self,
        kind: PayloadKind,
        message: KaspadMessage,
    ) -> Result<Option<KaspadMessage>, ProtocolError> {
        let response_id = message.response_id;
        let id = match response_id {
            BLANK_ROUTE_ID => match self.by_kind.get(&kind) {
                Some(&id) => id,
                None => return Ok(Some(message)),
            },
            id => id,
        };
        let unowned = ProtocolError::UnknownResponseId { response_id };
        let Some(slot) = self.slots.get(&id) else {
            return Err(unowned);
        };
        match slot.sender.try_send(message) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(_)) if kind.is_announcement() => Ok(None),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(ProtocolError::IncomingRouteFull { kind, limit: slot.limit })
            }
            Err(mpsc::error::TrySendError::Closed(message)) => {
                self.forget_dropped();
                match response_id {
                    BLANK_ROUTE_ID => Ok(Some(message)),
                    _ => Err(unowned),
                }
            }
        }
    }

    /// Ends every route: their receivers see the end after what is queued.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.slots.clear();
        self.by_kind.clear();
    }

    fn forget_dropped(&mut self) {
        let by_kind = &mut self.by_kind;
        self.slots.retain(|_, slot| {
            let live = !slot.sender.is_closed();
            if !live {
                slot.kinds.iter().for_each(|kind| {
                    by_kind.remove(kind);
                });
            }
            live
        });
    }
}

/// The kinds that end a connection or are answered in order by the session's own flows.
fn is_reserved(kind: PayloadKind) -> bool {
    kind.is_handshake()
        || matches!(
            kind,
            PayloadKind::Reject
                | PayloadKind::Ping
                | PayloadKind::Pong
                | PayloadKind::RequestAddresses
                | PayloadKind::Addresses
        )
}

/// Ids are unique in the process, as upstream's are, so that an answer which strays into
/// another session finds no route there.
fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        match NEXT.fetch_add(1, Ordering::Relaxed) {
            BLANK_ROUTE_ID => continue,
            id => return id,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;

    use super::*;
    use crate::wire::{
        Payload,
        proto::{BlockMessage, InvTransactionsMessage},
    };

    fn block() -> KaspadMessage {
        KaspadMessage::new(Payload::Block(BlockMessage::default()))
    }

    fn inv() -> KaspadMessage {
        KaspadMessage::new(Payload::InvTransactions(InvTransactionsMessage::default()))
    }

    fn route(router: &mut Router, message: KaspadMessage) -> Result<bool, ProtocolError> {
        let kind = message.kind().unwrap();
        router.route(kind, message).map(|back| back.is_none())
    }

    #[test]
    fn a_message_goes_to_the_route_of_its_kind_or_comes_back() {
        let mut router = Router::default();
        let mut blocks = router.subscribe(&[PayloadKind::Block], 1).unwrap();
        assert_eq!(route(&mut router, block()), Ok(true));
        assert_eq!(route(&mut router, inv()), Ok(false));
        assert_eq!(blocks.receive().now_or_never(), Some(Some(block())));
    }

    #[test]
    fn an_answer_goes_to_the_route_that_asked_whatever_its_kind() {
        let mut router = Router::default();
        let _by_kind = router.subscribe(&[PayloadKind::Block], 1).unwrap();
        let mut asker = router.subscribe(&[], 1).unwrap();
        let answer = KaspadMessage { response_id: asker.id(), ..block() };
        assert_eq!(route(&mut router, answer.clone()), Ok(true));
        assert_eq!(asker.receive().now_or_never(), Some(Some(answer)));
    }

    #[test]
    fn a_response_id_nobody_owns_is_a_protocol_error() {
        let mut router = Router::default();
        let dropped = router.subscribe(&[], 1).unwrap().id();
        for response_id in [dropped, u32::MAX] {
            let answer = KaspadMessage { response_id, ..block() };
            let expected = Err(ProtocolError::UnknownResponseId { response_id });
            assert_eq!(route(&mut router, answer), expected);
        }
    }

    #[test]
    fn a_full_route_drops_announcements_and_ends_the_connection_for_the_rest() {
        let mut router = Router::default();
        let kinds = [PayloadKind::Block, PayloadKind::InvTransactions];
        let mut both = router.subscribe(&kinds, 2).unwrap();
        assert_eq!(route(&mut router, inv()), Ok(true));
        assert_eq!(route(&mut router, inv()), Ok(true));
        assert_eq!(route(&mut router, inv()), Ok(true));
        let full = ProtocolError::IncomingRouteFull { kind: PayloadKind::Block, limit: 2 };
        assert_eq!(route(&mut router, block()), Err(full));
        assert!(both.receive().now_or_never().is_some());
        assert!(both.receive().now_or_never().is_some());
        assert!(both.receive().now_or_never().is_none(), "the third was dropped");
    }

    #[test]
    fn a_kind_has_one_route_until_that_route_is_dropped() {
        let mut router = Router::default();
        let first = router.subscribe(&[PayloadKind::Block], 1).unwrap();
        let kind = PayloadKind::Block;
        let second = router.subscribe(&[kind], 1).map(|_| ());
        assert_eq!(second, Err(SubscribeError::Taken { kind }));
        drop(first);
        assert!(router.subscribe(&[kind], 1).is_ok());
    }

    #[test]
    fn kinds_the_session_answers_itself_cannot_be_subscribed() {
        let mut router = Router::default();
        for kind in [PayloadKind::Ping, PayloadKind::Version, PayloadKind::Reject] {
            let refused = router.subscribe(&[kind], 1).map(|_| ());
            assert_eq!(refused, Err(SubscribeError::Reserved { kind }));
        }
    }

    #[test]
    fn one_route_too_many_is_refused_and_a_huge_capacity_is_cut() {
        let mut router = Router::default();
        let routes: Vec<_> =
            (0..ROUTES_MAX).map(|_| router.subscribe(&[], usize::MAX).unwrap()).collect();
        let refused = router.subscribe(&[], 1).map(|_| ());
        assert_eq!(refused, Err(SubscribeError::TooMany { limit: ROUTES_MAX }));
        assert_eq!(routes[0].receiver.max_capacity(), ROUTE_MESSAGES_MAX);
    }
}
