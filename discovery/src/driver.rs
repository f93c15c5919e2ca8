//! Asks the sources, and hands on what they find. It decides nothing: the book does.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "cache")]
use crate::cache;
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
    publishers: Vec<Box<dyn Publish>>,
    #[cfg(feature = "cache")]
    memory: Option<cache::Memory>,
    commands: mpsc::Receiver<Command>,
    hints: mpsc::Sender<Hint>,
}

impl Driver {
    #[cfg_attr(not(any(feature = "cache", feature = "mainline", feature = "mdns")), allow(unused_mut))]
    pub(crate) fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        hints: mpsc::Sender<Hint>,
    ) -> Self {
        let mut driver = Self {
            book: Book::new(config.local),
            lookups: Vec::new(),
            publishers: Vec::new(),
            #[cfg(feature = "cache")]
            memory: None,
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
            driver.publishers.push(Box::new(teller));
        }
        #[cfg(feature = "mainline")]
        if let Some((settings, key)) = config.mainline {
            let (asker, teller) = mainline::start(settings, key);
            driver.lookups.push(Box::new(asker));
            driver.publishers.push(Box::new(teller));
        }
        driver
    }

    /// Asks this source as well.
    #[cfg(feature = "kad")]
    pub(crate) fn ask(&mut self, lookup: impl Lookup + 'static) {
        self.lookups.push(Box::new(lookup));
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
                for publisher in &mut self.publishers {
                    publisher.publish(&addresses);
                }
            }
            Command::Reachable { addresses } => {
                for publisher in &mut self.publishers {
                    publisher.reachable(&addresses);
                }
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
