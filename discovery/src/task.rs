//! A source that runs in a task of its own: what the rest of the program wants goes there, and what it finds comes back.

// DNS tells nobody where this node is.
#![cfg_attr(not(any(feature = "mainline", feature = "mdns", feature = "rendezvous")), allow(dead_code))]

use std::{
    collections::BTreeSet,
    task::{Context, Poll},
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::{
    hint::Hint,
    source::{Lookup, Publish},
};

/// Hints that were not taken yet. One more is dropped: it is found again.
const FOUND_MAX: usize = 256;

/// What the rest of the program wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// This peer is sought.
    Seek(PeerId),
    /// It is not any more. `last`: nobody is.
    Forget { peer: PeerId, last: bool },
    /// This node listens here from now on, and nowhere else.
    Listening(Vec<Multiaddr>),
    /// Others reach this node here, from farther away.
    Reachable(Vec<Multiaddr>),
}

/// Looks for peers.
pub(crate) struct Asker {
    wishes: mpsc::UnboundedSender<Wish>,
    found: mpsc::Receiver<Hint>,
}

/// Tells where this node is.
pub(crate) struct Teller {
    wishes: mpsc::UnboundedSender<Wish>,
}

/// What is wanted of the task; it ends when the asker and the teller are dropped.
pub(crate) type Wishes = mpsc::UnboundedReceiver<Wish>;

/// Takes what the task finds.
pub(crate) struct Finds(mpsc::Sender<Hint>);

/// Both ends.
pub(crate) fn ends() -> (Asker, Teller, Wishes, Finds) {
    // One for each peer that is sought and each address that comes, which their own limits bound.
    let (wishes, wanted) = mpsc::unbounded_channel();
    let (hints, found) = mpsc::channel(FOUND_MAX);
    (Asker { wishes: wishes.clone(), found }, Teller { wishes }, wanted, Finds(hints))
}

impl Finds {
    /// Hands a hint on, if there is room for it.
    pub(crate) fn hand_on(&self, hint: Hint) {
        let source = hint.source;
        if self.0.try_send(hint).is_err() {
            tracing::debug!(?source, "a peer was found, and nobody takes it");
        }
    }
}

impl Lookup for Asker {
    fn seek(&mut self, _: &BTreeSet<PeerId>, new: PeerId) {
        let _ = self.wishes.send(Wish::Seek(new));
    }

    fn forget(&mut self, sought: &BTreeSet<PeerId>, gone: PeerId) {
        let _ = self.wishes.send(Wish::Forget { peer: gone, last: sought.is_empty() });
    }

    fn poll_hint(&mut self, cx: &mut Context<'_>) -> Poll<Hint> {
        match self.found.poll_recv(cx) {
            Poll::Ready(Some(hint)) => Poll::Ready(hint),
            // The task has ended: nothing more is found.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Publish for Teller {
    fn publish(&mut self, addresses: &[Multiaddr]) {
        let _ = self.wishes.send(Wish::Listening(addresses.to_vec()));
    }

    fn reachable(&mut self, addresses: &[Multiaddr]) {
        let _ = self.wishes.send(Wish::Reachable(addresses.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::hint::Source;

    #[test]
    fn what_is_wanted_comes_in_order_and_the_last_who_is_forgotten_is_called_so() {
        let (mut asker, mut teller, mut wanted, _finds) = ends();
        let (one, other) = (PeerId::random(), PeerId::random());
        let address: Multiaddr = "/ip4/192.168.1.7/tcp/1".parse().unwrap();
        asker.seek(&[one, other].into(), one);
        teller.publish(std::slice::from_ref(&address));
        teller.reachable(&[]);
        asker.forget(&[other].into(), one);
        asker.forget(&BTreeSet::new(), other);
        let expected = [
            Wish::Seek(one),
            Wish::Listening(vec![address]),
            Wish::Reachable(Vec::new()),
            Wish::Forget { peer: one, last: false },
            Wish::Forget { peer: other, last: true },
        ];
        for wish in expected {
            assert_eq!(wanted.try_recv(), Ok(wish));
        }
        drop((asker, teller));
        assert_eq!(wanted.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn hints_that_nobody_takes_are_bounded_and_those_before_are_kept() {
        let (mut asker, _teller, _wanted, finds) = ends();
        let peers: Vec<PeerId> = (0..=FOUND_MAX).map(|_| PeerId::random()).collect();
        for peer in &peers {
            let (addresses, source) = (Vec::new(), Source::Static);
            finds.hand_on(Hint { peer: *peer, addresses, source, age: Duration::ZERO, lasts: None });
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for expected in &peers[..FOUND_MAX] {
            assert!(matches!(asker.poll_hint(&mut cx), Poll::Ready(hint) if hint.peer == *expected));
        }
        assert!(asker.poll_hint(&mut cx).is_pending(), "one more was dropped");
        drop(finds);
        assert!(asker.poll_hint(&mut cx).is_pending(), "whose task has ended finds nobody");
    }
}
