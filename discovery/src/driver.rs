//! Asks the sources, and hands on what they find. It decides nothing: the book does.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "cache")]
use crate::cache;
#[cfg(feature = "dns")]
use crate::dns;
#[cfg(feature = "mainline")]
use crate::mainline;
#[cfg(feature = "mdns")]
use crate::mdns;
use crate::{
    book::{Book, Full, Known},
    discovery::Config,
    hint::{Hint, Source},
    source::{Lookup, Publish},
};

/// What a [`Discovery`](crate::Discovery) asks for.
pub(crate) enum Command {
    Seek { peer: PeerId, given: Vec<Multiaddr>, reply: oneshot::Sender<Result<Vec<Hint>, Full>> },
    Forget { peer: PeerId },
    Publish { addresses: Vec<Multiaddr> },
    Reachable { addresses: Vec<Multiaddr> },
    Reached { peer: PeerId, address: Multiaddr },
    Known { reply: oneshot::Sender<Vec<Known>> },
    Stop { reply: oneshot::Sender<()> },
}

pub(crate) struct Driver {
    book: Book,
    lookups: Vec<Box<dyn Lookup>>,
    /// Those that tell this host's own networks.
    near: Vec<Box<dyn Publish>>,
    /// Those that tell strangers.
    far: Vec<Box<dyn Publish>>,
    relays_only: bool,
    #[cfg(feature = "cache")]
    memory: Option<cache::Memory>,
    #[cfg(feature = "mainline")]
    mainline: Option<mainline::Started>,
    commands: mpsc::Receiver<Command>,
    hints: mpsc::Sender<Hint>,
}

impl Driver {
    #[cfg_attr(
        not(any(feature = "cache", feature = "dns", feature = "mainline", feature = "mdns")),
        allow(unused_mut)
    )]
    pub(crate) fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        hints: mpsc::Sender<Hint>,
    ) -> Self {
        let mut driver = Self {
            book: Book::new(config.local),
            lookups: Vec::new(),
            near: Vec::new(),
            far: Vec::new(),
            relays_only: config.relays_only,
            #[cfg(feature = "cache")]
            memory: None,
            #[cfg(feature = "mainline")]
            mainline: None,
            commands,
            hints,
        };
        #[cfg(feature = "cache")]
        if let Some(path) = config.cache {
            let (remembered, memory) = cache::open(path);
            driver.lookups.push(Box::new(remembered));
            driver.memory = Some(memory);
        }
        #[cfg(feature = "mdns")]
        if config.mdns {
            let (asker, teller) = mdns::start(config.local);
            driver.lookups.push(Box::new(asker));
            driver.near.push(Box::new(teller));
        }
        #[cfg(feature = "dns")]
        if !config.dns.is_empty() {
            driver.lookups.push(Box::new(dns::start(config.dns)));
        }
        #[cfg(feature = "mainline")]
        if let Some((settings, key)) = config.mainline {
            let (asker, teller, started) = mainline::start(settings, key);
            driver.mainline = Some(started);
            driver.lookups.push(Box::new(asker));
            driver.far.push(Box::new(teller));
        }
        driver
    }

    /// The node of the 160-bit network, if there is one, once it has its socket.
    #[cfg(feature = "mainline")]
    pub(crate) fn mainline(&self) -> Option<mainline::Started> {
        self.mainline.clone()
    }

    /// Asks this source as well.
    #[cfg(any(feature = "kad", feature = "rendezvous"))]
    pub(crate) fn ask(&mut self, lookup: impl Lookup + 'static) {
        self.lookups.push(Box::new(lookup));
    }

    /// Tells this source as well.
    #[cfg(feature = "rendezvous")]
    pub(crate) fn tell(&mut self, publisher: impl Publish + 'static) {
        self.far.push(Box::new(publisher));
    }

    pub(crate) async fn run(mut self) {
        loop {
            let timeout = self.next_timeout();
            let lookups = &mut self.lookups;
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Stop { reply }) => {
                        self.finish().await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return self.finish().await,
                },
                hint = poll_fn(|cx| poll_hint(lookups, cx)) => self.take(hint),
                () = sleep_until(timeout) => self.timeout(),
            }
        }
    }

    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_async, clippy::unused_self))]
    async fn finish(&mut self) {
        #[cfg(feature = "cache")]
        if let Some(memory) = &mut self.memory {
            memory.finish().await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Seek { peer, given, reply } => {
                let _ = reply.send(self.seek(peer, given));
            }
            Command::Forget { peer } => {
                if self.book.forget(peer) {
                    for lookup in &mut self.lookups {
                        lookup.forget(self.book.sought(), peer);
                    }
                }
            }
            Command::Publish { addresses } => {
                self.near.iter_mut().for_each(|near| near.publish(&addresses));
                let told = if self.relays_only { &[][..] } else { &addresses };
                self.far.iter_mut().for_each(|far| far.publish(told));
            }
            Command::Reachable { mut addresses } => {
                self.near.iter_mut().for_each(|near| near.reachable(&addresses));
                if self.relays_only {
                    addresses.retain(|address| address.iter().any(|part| part == Protocol::P2pCircuit));
                }
                self.far.iter_mut().for_each(|far| far.reachable(&addresses));
            }
            Command::Reached { peer, address } => self.reached(peer, address),
            Command::Known { reply } => {
                let _ = reply.send(self.book.known());
            }
            // It ends the loop.
            Command::Stop { .. } => {}
        }
    }

    fn seek(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<Vec<Hint>, Full> {
        let now = Instant::now();
        let new = self.book.seek(peer)?;
        let source = Source::Static;
        self.book.take(Hint { peer, addresses, source, age: Default::default(), lasts: None }, now);
        if new {
            for lookup in &mut self.lookups {
                lookup.seek(self.book.sought(), peer);
            }
            let mut at_once = Context::from_waker(Waker::noop());
            while let Poll::Ready(hint) = poll_hint(&mut self.lookups, &mut at_once) {
                match hint.peer == peer {
                    // It is in the answer.
                    true => drop(self.book.take(hint, now)),
                    false => self.take(hint),
                }
            }
        }
        Ok(self.book.of(peer, now))
    }

    fn take(&mut self, hint: Hint) {
        let Some(hint) = self.book.take(hint, Instant::now()) else { return };
        tracing::debug!(peer = %hint.peer, source = %hint.source, addresses = ?hint.addresses, "a hint");
        if self.hints.try_send(hint).is_err() {
            tracing::debug!("a hint was dropped: nobody takes them");
        }
    }

    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_self, unused_variables))]
    fn reached(&mut self, peer: PeerId, address: Multiaddr) {
        #[cfg(feature = "cache")]
        if let Some(memory) = self.memory.as_mut().filter(|_| self.book.sought().contains(&peer)) {
            memory.reached(peer, address, Instant::now());
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let expiry = self.book.poll_timeout();
        #[cfg(feature = "cache")]
        let expiry =
            expiry.into_iter().chain(self.memory.as_ref().and_then(|memory| memory.due())).min();
        expiry
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        self.book.handle_timeout(now);
        #[cfg(feature = "cache")]
        if let Some(memory) =
            self.memory.as_mut().filter(|memory| memory.due().is_some_and(|at| at <= now))
        {
            memory.save(now);
        }
    }
}

/// The next hint of any source.
fn poll_hint(lookups: &mut [Box<dyn Lookup>], cx: &mut Context<'_>) -> Poll<Hint> {
    let ready = |poll: Poll<Hint>| match poll {
        Poll::Ready(hint) => Some(hint),
        Poll::Pending => None,
    };
    let found = lookups.iter_mut().find_map(|lookup| ready(lookup.poll_hint(cx)));
    found.map_or(Poll::Pending, Poll::Ready)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What it was told last: where this node listens, and where it is reached.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<(Vec<Multiaddr>, Vec<Multiaddr>)>>);

    impl Publish for Told {
        fn publish(&mut self, addresses: &[Multiaddr]) {
            self.0.lock().unwrap().0 = addresses.to_vec();
        }

        fn reachable(&mut self, addresses: &[Multiaddr]) {
            self.0.lock().unwrap().1 = addresses.to_vec();
        }
    }

    #[test]
    fn strangers_are_told_of_relays_alone_if_the_operator_says_so_and_the_local_network_of_all() {
        let own: Multiaddr = "/ip4/203.0.113.7/tcp/1".parse().unwrap();
        let relay = PeerId::random();
        let circuit: Multiaddr =
            format!("/ip4/203.0.113.9/tcp/1/p2p/{relay}/p2p-circuit").parse().unwrap();
        let confirmed = vec![own.clone(), circuit.clone()];
        for relays_only in [false, true] {
            let config = Config { relays_only, ..Config::silent(PeerId::random()) };
            let mut driver = Driver::new(config, mpsc::channel(1).1, mpsc::channel(1).0);
            let (near, far) = (Told::default(), Told::default());
            driver.near.push(Box::new(near.clone()));
            driver.far.push(Box::new(far.clone()));
            driver.command(Command::Publish { addresses: vec![own.clone()] });
            driver.command(Command::Reachable { addresses: confirmed.clone() });
            let all = (vec![own.clone()], confirmed.clone());
            assert_eq!(*near.0.lock().unwrap(), all);
            let told = if relays_only { (Vec::new(), vec![circuit.clone()]) } else { all };
            assert_eq!(*far.0.lock().unwrap(), told, "{relays_only}");
        }
    }
}
