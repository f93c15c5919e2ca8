//! The addresses of one relay, dialled as in RFC 8305: one kind after the other, each with a head start before the next,
//! and at once where those before have failed.
//!
//! Over TCP comes first, then QUIC, then WebSockets: what gets through everywhere costs most. Of each, IPv4 comes first
//! (unlike in RFC 8305): what a relay sees of our IPv4 address is needed for hole punches, and our IPv6 address we know
//! ourselves. A name is a kind of its own, in the place of IPv4: what it stands for is tried one after the other, as well
//! (`resolve`). libp2p begins all dials of
//! a connection together and does not tell a transport what they are for; so whoever makes one says it just before, on
//! [`Turns`].

use std::{
    collections::BTreeMap,
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};
use tokio::{sync::watch, time::Instant};

use crate::addr::{ip_of, transport_of};

/// How long one kind of address has before the next kind is tried as well (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Says whether the next dials take turns. All clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Option<Race>>>);

/// The dials of one connection.
#[derive(Clone)]
struct Race {
    begun: Instant,
    /// The kinds that were given, in their order, and how many addresses of each have not failed.
    open: watch::Sender<BTreeMap<usize, usize>>,
}

impl Turns {
    /// The next dials are those of one relay, to these addresses.
    pub(crate) fn race(&self, addresses: &[Multiaddr]) {
        let mut open = BTreeMap::new();
        for address in addresses {
            *open.entry(kind(address)).or_default() += 1;
        }
        self.set(Some(Race { begun: Instant::now(), open: watch::Sender::new(open) }));
    }

    /// The next dials all begin at once.
    pub(crate) fn none(&self) {
        self.set(None);
    }

    fn set(&self, race: Option<Race>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = race;
    }

    fn current(&self) -> Option<Race> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn kind(address: &Multiaddr) -> usize {
    2 * transport_of(address).turn() + usize::from(ip_of(address).is_some_and(|ip| ip.is_ipv6()))
}

impl Race {
    /// Waits until this kind may be dialled.
    async fn turn(&self, kind: usize) {
        let mut open = self.open.subscribe();
        loop {
            let before = open.borrow_and_update().range(..kind).filter(|(_, left)| **left > 0).count();
            let at = self.begun + HEAD_START * before as u32;
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                changed = open.changed() => if changed.is_err() { return },
            }
        }
    }

    fn failed(&self, kind: usize) {
        self.open.send_modify(|open| {
            if let Some(left) = open.get_mut(&kind) {
                *left = left.saturating_sub(1);
            }
        });
    }
}

/// A transport whose dials take turns when they are told to.
pub(crate) struct InTurn<T> {
    inner: T,
    turns: Turns,
}

impl<T> InTurn<T> {
    pub(crate) fn new(inner: T, turns: Turns) -> Self {
        Self { inner, turns }
    }
}

impl<T> Transport for InTurn<T>
where
    T: Transport<Dial: Send + 'static, Error: Error + Send> + Unpin,
    T::Output: 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let kind = kind(&addr);
        let Some(race) = self.turns.current() else {
            return Ok(self.inner.dial(addr, opts)?.boxed());
        };
        let dial = self.inner.dial(addr, opts).inspect_err(|_| race.failed(kind))?;
        let dial = async move {
            race.turn(kind).await;
            dial.await.inspect_err(|_| race.failed(kind))
        };
        Ok(dial.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use libp2p::core::{
        Endpoint,
        transport::{PortUse, dummy::DummyTransport},
    };

    use super::*;

    const TCP: &str = "/ip4/1.2.3.4/tcp/4001";
    const QUIC: &str = "/ip4/1.2.3.4/udp/4001/quic-v1";
    const TCP_V6: &str = "/ip6/2a00::1/tcp/4001";
    const WEB: &str = "/ip4/1.2.3.4/tcp/443/tls/ws";

    /// Its dials end after a time that depends on the address.
    struct Net(fn(&Multiaddr) -> Option<(Duration, bool)>);

    impl Transport for Net {
        type Output = Duration;
        type Error = io::Error;
        type ListenerUpgrade = <DummyTransport<Duration> as Transport>::ListenerUpgrade;
        type Dial = BoxFuture<'static, io::Result<Duration>>;

        fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            let answer = self.0(&to);
            let begun = Instant::now();
            let dial = async move {
                let dialled = Instant::now();
                let Some((after, good)) = answer else { return std::future::pending().await };
                tokio::time::sleep(after).await;
                match good {
                    true => Ok(dialled - begun),
                    false => Err(io::ErrorKind::ConnectionRefused.into()),
                }
            };
            Ok(dial.boxed())
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    /// Which address wins, and how long after the beginning it was dialled.
    async fn winner(
        net: fn(&Multiaddr) -> Option<(Duration, bool)>,
        addresses: &[&str],
    ) -> (String, Duration) {
        let turns = Turns::default();
        let mut transport = InTurn::new(Net(net), turns.clone());
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let addresses: Vec<Multiaddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        turns.race(&addresses);
        let dial = |address: &Multiaddr| {
            let named = address.to_string();
            let dial = transport.dial(address.clone(), opts).unwrap();
            async move { dial.await.map(|waited| (named, waited)) }.boxed()
        };
        let dials: Vec<_> = addresses.iter().map(dial).collect();
        turns.none();
        futures::future::select_ok(dials).await.unwrap().0
    }

    fn soon(good: bool) -> Option<(Duration, bool)> {
        Some((Duration::from_millis(40), good))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_the_order_wins_wherever_it_stands_in_the_list() {
        let (won, waited) = winner(|_| soon(true), &[WEB, QUIC, TCP]).await;
        assert_eq!((won.as_str(), waited), (TCP, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_else_is_silent_the_websocket_is_dialled_after_two_head_starts() {
        let net = |to: &Multiaddr| if to.to_string() == WEB { soon(true) } else { None };
        let (won, waited) = winner(net, &[TCP, QUIC, WEB]).await;
        assert_eq!((won.as_str(), waited), (WEB, 2 * HEAD_START));
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_keeps_silent_costs_one_head_start_and_one_that_is_missing_nothing() {
        let over_v6 = |to: &Multiaddr| if to.to_string() == TCP_V6 { soon(true) } else { None };
        assert_eq!(winner(over_v6, &[TCP, TCP_V6, QUIC]).await, (TCP_V6.to_owned(), HEAD_START));
        let over_v4 = |to: &Multiaddr| if to.to_string() == TCP { soon(true) } else { None };
        assert_eq!(winner(over_v4, &[TCP_V6, TCP]).await, (TCP.to_owned(), Duration::ZERO));
        let missing = |to: &Multiaddr| match to.to_string().as_str() {
            TCP => None,
            TCP_V6 => Some((Duration::ZERO, false)),
            _ => soon(true),
        };
        // One head start for the silent one, and none for the one that failed in its own turn.
        assert_eq!(winner(missing, &[TCP, TCP_V6, QUIC]).await, (QUIC.to_owned(), HEAD_START));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_early_is_not_waited_for() {
        let net = |to: &Multiaddr| soon(to.to_string() == WEB);
        let (won, waited) = winner(net, &[TCP, WEB]).await;
        assert_eq!((won.as_str(), waited), (WEB, Duration::from_millis(40)));
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_missing_have_no_turn() {
        let net = |to: &Multiaddr| if to.to_string() == WEB { soon(true) } else { None };
        assert_eq!(winner(net, &[QUIC, WEB]).await.1, HEAD_START);
        assert_eq!(winner(net, &[WEB]).await.1, Duration::ZERO);
    }
}
