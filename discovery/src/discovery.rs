//! The face.

#[cfg(feature = "cache")]
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "mainline")]
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "kad")]
use crate::kad;
#[cfg(feature = "mainline")]
use crate::mainline;
#[cfg(feature = "rendezvous")]
use crate::rendezvous;
use crate::{
    book::{Full, Known},
    driver::{Command, Driver},
    hint::Hint,
};

/// Requests that wait. It takes one per turn of its loop; whoever asks faster waits.
const COMMANDS_MAX: usize = 256;

/// Hints that nobody has taken yet. One more is dropped: its source says it again.
pub(crate) const HINTS_MAX: usize = 256;

/// Whoever is on a network of this host has answered within this: it is asked three times meanwhile.
#[cfg(feature = "mdns")]
const MDNS_PATIENCE: Duration = Duration::from_millis(1_500);

/// A lookup in a DHT takes a second or two, also at the start, and 10 s at most. Whoever opens a stream gives it 10 s, of which
/// something is left for the dial.
#[cfg(any(feature = "dns", feature = "kad", feature = "mainline", feature = "rendezvous"))]
const LOOKUP_PATIENCE: Duration = Duration::from_secs(8);

/// Which sources there are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who we are.
    pub local: PeerId,
    /// Tell strangers of circuits through relays alone, and not of this host's addresses: whoever looks this node up learns
    /// its address only when it lets him connect, or where it looks something up itself. Default: no. The local network
    /// is told, and a DHT what `Dht::says` is given.
    pub relays_only: bool,
    /// Ask the networks of this host by mDNS, and answer there. Default: yes. It costs a UDP socket on port 5353, and
    /// whoever is on these networks learns this node's id and where it listens there.
    #[cfg(feature = "mdns")]
    pub mdns: bool,
    /// Remember in this file where peers were reached. Default: none, nothing is remembered.
    #[cfg(feature = "cache")]
    pub cache: Option<PathBuf>,
    /// Domains that say where peers are: TXT records of `_dnsaddr.<domain>`. Default: none. Their name servers, and whoever
    /// carries the questions, learn that this host asks, and not for whom.
    #[cfg(feature = "dns")]
    pub dns: Vec<String>,
    /// Take part in a DHT. Default: no.
    #[cfg(feature = "kad")]
    pub kad: Option<kad::Config>,
    /// Register at meeting points, and ask there for peers. Default: no. Whoever has such a point sees this node's address,
    /// its id, where it says that it is, and whom it looks for.
    #[cfg(feature = "rendezvous")]
    pub rendezvous: Option<rendezvous::Config>,
    /// Look for peers in this 160-bit network, and tell there where this node is, signed with its key. Default: no. It
    /// costs a UDP port, and whoever is in that network and knows this node's id learns where it is.
    #[cfg(feature = "mainline")]
    pub mainline: Option<(mainline::Config, Keypair)>,
}

/// Why nothing is looked for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The DHT cannot be taken part in.
    #[cfg(feature = "kad")]
    #[error(transparent)]
    Kad(#[from] kad::StartError),
    /// Meeting points cannot be used.
    #[cfg(feature = "rendezvous")]
    #[error("meeting points cannot be used: {0}")]
    Rendezvous(rendezvous::NoTransport),
}

impl Config {
    /// The defaults, for this node.
    pub fn new(local: PeerId) -> Self {
        Self {
            local,
            relays_only: false,
            #[cfg(feature = "mdns")]
            mdns: true,
            #[cfg(feature = "cache")]
            cache: None,
            #[cfg(feature = "dns")]
            dns: Vec::new(),
            #[cfg(feature = "kad")]
            kad: None,
            #[cfg(feature = "mainline")]
            mainline: None,
            #[cfg(feature = "rendezvous")]
            rendezvous: None,
        }
    }

    /// No source at all: only what the operator gives is known.
    pub fn silent(local: PeerId) -> Self {
        Self {
            local,
            relays_only: false,
            #[cfg(feature = "mdns")]
            mdns: false,
            #[cfg(feature = "cache")]
            cache: None,
            #[cfg(feature = "dns")]
            dns: Vec::new(),
            #[cfg(feature = "kad")]
            kad: None,
            #[cfg(feature = "mainline")]
            mainline: None,
            #[cfg(feature = "rendezvous")]
            rendezvous: None,
        }
    }

    /// Whether any source may find a peer that nobody said a word about, be it only that it was reached before.
    pub fn finds(&self) -> bool {
        #[cfg(feature = "cache")]
        let remembers = self.cache.is_some();
        #[cfg(not(feature = "cache"))]
        let remembers = false;
        remembers || self.asks()
    }

    /// The sources that ask others, as they are called, and within which time those who know a peer have said so.
    pub fn seekers(&self) -> (Vec<&'static str>, Duration) {
        let sources: [(bool, &'static str, Duration); 5] = [
            #[cfg(feature = "mdns")]
            (self.mdns, "mdns", MDNS_PATIENCE),
            #[cfg(not(feature = "mdns"))]
            (false, "mdns", Duration::ZERO),
            #[cfg(feature = "kad")]
            (self.kad.is_some(), "kad", LOOKUP_PATIENCE),
            #[cfg(not(feature = "kad"))]
            (false, "kad", Duration::ZERO),
            #[cfg(feature = "mainline")]
            (self.mainline.is_some(), "mainline", LOOKUP_PATIENCE),
            #[cfg(not(feature = "mainline"))]
            (false, "mainline", Duration::ZERO),
            #[cfg(feature = "dns")]
            (!self.dns.is_empty(), "dns", LOOKUP_PATIENCE),
            #[cfg(not(feature = "dns"))]
            (false, "dns", Duration::ZERO),
            #[cfg(feature = "rendezvous")]
            (self.rendezvous.is_some(), "rendezvous", LOOKUP_PATIENCE),
            #[cfg(not(feature = "rendezvous"))]
            (false, "rendezvous", Duration::ZERO),
        ];
        let patience = sources.iter().filter(|(on, ..)| *on).map(|(.., patience)| *patience).max();
        let names = sources.iter().filter(|(on, ..)| *on).map(|(_, name, _)| *name).collect();
        (names, patience.unwrap_or_default())
    }

    /// Whether any source asks others where a peer is.
    pub fn asks(&self) -> bool {
        #[cfg(feature = "mdns")]
        let asks = self.mdns;
        #[cfg(not(feature = "mdns"))]
        let asks = false;
        #[cfg(feature = "kad")]
        let looks_up = self.kad.is_some();
        #[cfg(not(feature = "kad"))]
        let looks_up = false;
        #[cfg(feature = "mainline")]
        let joins = self.mainline.is_some();
        #[cfg(not(feature = "mainline"))]
        let joins = false;
        #[cfg(feature = "dns")]
        let has_domains = !self.dns.is_empty();
        #[cfg(not(feature = "dns"))]
        let has_domains = false;
        #[cfg(feature = "rendezvous")]
        let meets = self.rendezvous.is_some();
        #[cfg(not(feature = "rendezvous"))]
        let meets = false;
        asks || looks_up || joins || has_domains || meets
    }
}

/// What finds peers. Cheap to clone; all clones are the same.
///
/// # Drop
/// With the last clone it ends. To be sure that what is to be remembered is written down, [`stop`](Self::stop) it.
#[derive(Clone, Debug)]
pub struct Discovery {
    commands: mpsc::Sender<Command>,
    #[cfg(feature = "kad")]
    dht: Option<kad::Dht>,
    #[cfg(feature = "mainline")]
    mainline: Option<mainline::Started>,
}

/// What was found about peers that are sought.
#[derive(Debug)]
pub struct Hints(mpsc::Receiver<Hint>);

impl Hints {
    /// The next one; none once all has ended.
    pub async fn next(&mut self) -> Option<Hint> {
        self.0.recv().await
    }
}

impl Discovery {
    /// Starts with these sources. Must be called within a tokio runtime. A source that does not work on this host is
    /// told in the log, and the others go on.
    ///
    /// # Errors
    /// If the DHT cannot listen where it is to, or its network has no proper name.
    #[cfg_attr(
        not(any(feature = "kad", feature = "rendezvous")),
        allow(clippy::unnecessary_wraps, unused_mut)
    )]
    pub fn start(mut config: Config) -> Result<(Self, Hints), StartError> {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (found, hints) = mpsc::channel(HINTS_MAX);
        #[cfg(feature = "kad")]
        let (dht, finder) = config.kad.take().map(kad::start).transpose()?.unzip();
        #[cfg(feature = "rendezvous")]
        let meeting = config.rendezvous.take().map(rendezvous::start).transpose();
        #[cfg(feature = "rendezvous")]
        let meeting = meeting.map_err(StartError::Rendezvous)?;
        let mut driver = Driver::new(config, requests, found);
        #[cfg(feature = "rendezvous")]
        if let Some((asker, teller)) = meeting {
            driver.ask(asker);
            driver.tell(teller);
        }
        #[cfg(feature = "kad")]
        if let Some(finder) = finder {
            driver.ask(finder);
        }
        #[cfg(feature = "mainline")]
        let mainline = driver.mainline();
        tokio::spawn(driver.run());
        let discovery = Self {
            commands,
            #[cfg(feature = "kad")]
            dht,
            #[cfg(feature = "mainline")]
            mainline,
        };
        Ok((discovery, Hints(hints)))
    }

    /// The DHT, if this node takes part in one.
    #[cfg(feature = "kad")]
    pub fn dht(&self) -> Option<&kad::Dht> {
        self.dht.as_ref()
    }

    /// Its node of the 160-bit network, while it takes part in one.
    #[cfg(feature = "mainline")]
    pub fn mainline(&self) -> Option<mainline::Mainline> {
        self.mainline.as_ref().and_then(|started| started.borrow().clone())
    }

    /// A peer is sought from now on; `given`: where it is, by our operator. Returns what is known of it already; what is
    /// found later comes with [`Hints`].
    ///
    /// # Errors
    /// If as many are sought as can be.
    pub async fn seek(&self, peer: PeerId, given: Vec<Multiaddr>) -> Result<Vec<Hint>, Full> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Seek { peer, given, reply }).await;
        answer.await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    /// A peer is not sought any more.
    pub async fn forget(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Forget { peer }).await;
    }

    /// This node listens here from now on, and nowhere else.
    pub async fn publish(&self, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Publish { addresses }).await;
    }

    /// Others reach this node at these addresses, from farther away, and at no others.
    pub async fn reachable(&self, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Reachable { addresses }).await;
    }

    /// A dial to this address led to the peer. It is remembered if the peer is sought.
    pub async fn reached(&self, peer: PeerId, address: Multiaddr) {
        let _ = self.commands.send(Command::Reached { peer, address }).await;
        #[cfg(feature = "kad")]
        if let Some(dht) = &self.dht {
            dht.reached(peer);
        }
    }

    /// A peer that is sought is not where it was found, or not any more.
    #[cfg_attr(not(feature = "kad"), allow(clippy::unused_self, unused_variables))]
    pub fn missed(&self, peer: PeerId) {
        #[cfg(feature = "kad")]
        if let Some(dht) = &self.dht {
            dht.missed(peer);
        }
    }

    /// Ends, and returns when what is to be remembered is written down.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        let _ = self.commands.send(Command::Stop { reply }).await;
        let _ = stopped.await;
        #[cfg(feature = "kad")]
        if let Some(dht) = &self.dht {
            dht.stop().await;
        }
    }

    /// What is known of whom.
    pub async fn known(&self) -> Vec<Known> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Known { reply }).await;
        answer.await.unwrap_or_default()
    }
}

#[cfg(all(test, feature = "cache"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hint::Source;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.168.1.9/tcp/{port}").parse().unwrap()
    }

    /// Only what is remembered in a file.
    fn start(folder: &tempfile::TempDir) -> Discovery {
        let cache = Some(folder.path().join("peers"));
        Discovery::start(Config { cache, ..Config::silent(PeerId::random()) }).unwrap().0
    }

    fn said(hints: &[Hint]) -> Vec<(Source, Vec<Multiaddr>)> {
        hints.iter().map(|hint| (hint.source, hint.addresses.clone())).collect()
    }

    #[tokio::test]
    async fn who_was_sought_and_reached_is_found_there_the_next_time_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (sought, other) = (PeerId::random(), PeerId::random());
        let first = start(&folder);
        assert_eq!(
            said(&first.seek(sought, vec![at(1)]).await.unwrap()),
            [(Source::Static, vec![at(1)])]
        );
        first.reached(sought, at(2)).await;
        first.reached(other, at(3)).await;
        first.stop().await;
        let second = start(&folder);
        assert_eq!(said(&second.seek(other, Vec::new()).await.unwrap()), []);
        let expected = [(Source::Static, vec![at(1)]), (Source::Cache, vec![at(2)])];
        assert_eq!(said(&second.seek(sought, vec![at(1)]).await.unwrap()), expected);
        let known = second.known().await;
        assert_eq!(known.len(), 1, "nothing is known of the other one: {known:?}");
        assert_eq!((known[0].peer, known[0].addresses.clone()), (sought, vec![at(1), at(2)]));
        assert_eq!(known[0].sources, [Source::Static, Source::Cache]);
    }

    #[tokio::test]
    async fn what_is_asked_of_one_that_ended_has_no_answer_and_does_not_hang() {
        let discovery = start(&tempfile::tempdir().unwrap());
        discovery.stop().await;
        discovery.stop().await;
        assert_eq!(discovery.seek(PeerId::random(), Vec::new()).await, Ok(Vec::new()));
        assert_eq!(discovery.known().await, []);
    }
}
