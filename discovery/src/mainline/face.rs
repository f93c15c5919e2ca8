//! A node of the network, for programs.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{broadcast, mpsc, oneshot},
};

use super::{
    door::{ANSWERS_PER_IP, Rate},
    driver::{Command, Driver, Search},
    id::Id,
    item::Item,
    lookup::{Then, Want},
    machine::{Busy, Machine, MainlineEvent, Outcome, RoutingTable, Settings},
    message::Node,
};
use crate::plans::KEPT_MAX;

/// The port of the network.
const PORT: u16 = 6881;

/// Where the public network is joined.
pub const PUBLIC_ROUTERS: [&str; 3] =
    ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"];

/// Requests that wait. Whoever asks faster waits.
const COMMANDS_MAX: usize = 256;

/// Events that a listener has not taken; of more, it misses the oldest.
const EVENTS_MAX: usize = 256;

/// Which network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own, joined at these `HOST:PORT`; at none, this node begins it, and others join at it.
    Private(Vec<String>),
    /// That of the world's BitTorrent clients, joined at [`PUBLIC_ROUTERS`] and these.
    Public(Vec<String>),
}

/// How a node behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which network. Default: one of its own.
    pub network: Network,
    /// Where it is. Default: every address of this host.
    pub ip: Ipv4Addr,
    /// Its port. Default: 6881, or any that is free if that is taken.
    pub port: Option<u16>,
    /// Whether it answers others and keeps what they store. Default: in a private network. It costs a megabyte of
    /// memory, and traffic; a node that only asks says so, and nobody depends on it.
    pub serves: bool,
    /// Nodes of one bucket, and of the nearest that have to answer a search and keep what is stored. Default: 20. With
    /// fewer, searches are shorter, and values are lost sooner when nodes leave.
    pub bucket: usize,
    /// Nodes that one search asks at once. Default: 3. With more, searches are faster and cost more packets.
    pub parallel: usize,
    /// Who did not answer a query within this did not answer. Default: 2 s.
    pub answer_within: Duration,
    /// A part of the table in which nobody was looked for is refreshed after this, and who was silent for a third of it is
    /// asked whether it is there. Default: 15 min.
    pub refresh: Duration,
    /// Queries from one address that are answered. Default: 32 a second, 64 at once.
    pub answers_per_ip: Rate,
    /// The public address of this host, if it is known. Default: what others see.
    pub public_ip: Option<Ipv4Addr>,
    /// Whether it also says in DNS records where it is, as pkarr does, and looks for those of whom it finds no contact.
    /// Default: yes. It doubles the packets that this takes.
    #[cfg(feature = "pkarr")]
    pub pkarr: bool,
}

impl Config {
    /// The defaults, for this network.
    pub fn new(network: Network) -> Self {
        let serves = matches!(network, Network::Private(_));
        let Settings { bucket, parallel, answer_within, refresh, .. } = Settings::default();
        let (ip, answers_per_ip) = (Ipv4Addr::UNSPECIFIED, ANSWERS_PER_IP);
        Self {
            network,
            ip,
            port: None,
            serves,
            bucket,
            parallel,
            answer_within,
            refresh,
            answers_per_ip,
            public_ip: None,
            #[cfg(feature = "pkarr")]
            pkarr: true,
        }
    }

    pub(super) fn is_public(&self) -> bool {
        matches!(self.network, Network::Public(_))
    }

    fn ways_in(&self) -> Vec<String> {
        match &self.network {
            Network::Private(given) => given.clone(),
            Network::Public(given) => {
                PUBLIC_ROUTERS.iter().map(|name| (*name).to_owned()).chain(given.clone()).collect()
            }
        }
    }

    async fn socket(&self) -> Result<UdpSocket, StartError> {
        let bind = async |port| {
            let address = SocketAddrV4::new(self.ip, port);
            UdpSocket::bind(address).await.map_err(|cause| StartError { address, cause })
        };
        match (self.port, bind(self.port.unwrap_or(PORT)).await) {
            (None, Err(_)) => bind(0).await,
            (_, result) => result,
        }
    }
}

/// There is no node, since its port cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("UDP port {address} cannot be used")]
pub struct StartError {
    /// Where it was to be.
    pub address: SocketAddrV4,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Too much is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// As many values are stored again and again as may be.
    #[error("{limit} values are stored again each hour already")]
    Full {
        /// How many that is.
        limit: usize,
    },
    /// The node was stopped.
    #[error("the node was stopped")]
    Stopped,
}

/// A node of the network. Cheap to clone; all clones are the same. With the last one it ends.
#[derive(Clone, Debug)]
pub struct Mainline {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<MainlineEvent>,
    address: SocketAddrV4,
}

impl Mainline {
    /// Starts a node, which begins to join. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If its port cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (node, driver) = Self::prepare(&config).await?;
        tokio::spawn(driver.run());
        Ok(node)
    }

    pub(super) async fn prepare(config: &Config) -> Result<(Self, Driver), StartError> {
        let socket = config.socket().await?;
        let unknown = SocketAddrV4::new(config.ip, config.port.unwrap_or(PORT));
        let address = match socket.local_addr() {
            Ok(std::net::SocketAddr::V4(address)) => address,
            Ok(_) => unknown,
            Err(cause) => return Err(StartError { address: unknown, cause }),
        };
        let settings = Settings {
            serves: config.serves,
            bucket: config.bucket.max(1),
            parallel: config.parallel.max(1),
            answer_within: config.answer_within,
            refresh: config.refresh,
            answers_per_ip: config.answers_per_ip,
            strict: config.is_public(),
            public: config.public_ip,
        };
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let machine = Machine::new(settings, rand::random(), std::time::Instant::now());
        let driver = Driver::new(socket, machine, config.ways_in(), requests, events.clone());
        Ok((Self { commands, events, address }, driver))
    }

    /// Where its socket is.
    pub fn local_address(&self) -> SocketAddrV4 {
        self.address
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<MainlineEvent> {
        self.events.subscribe()
    }

    /// The nodes nearest to a place. `via`: somebody to ask, too, whether or not this node knows it.
    ///
    /// # Errors
    /// If too much is under way.
    pub async fn find_node(&self, target: Id, via: Option<SocketAddrV4>) -> Result<Vec<Node>, Failed> {
        let search = Search { target, want: Want::Nodes, then: Then::Nothing, via };
        match self.search(search, false).await? {
            Outcome::Nodes(nodes) => Ok(nodes),
            Outcome::Peers(_) | Outcome::Value(_) | Outcome::Stored(_) => Ok(Vec::new()),
        }
    }

    /// Stores something at the nodes nearest to its key, and again each hour until this node ends. Returns how many say
    /// that they keep it.
    ///
    /// # Errors
    /// If too much is under way, or stored already.
    pub async fn store(&self, item: Item) -> Result<usize, Failed> {
        let target = item.target();
        let salt = item.mutable().map(|mutable| mutable.salt.clone()).unwrap_or_default();
        let then = Then::Put { item, replaces: None };
        self.put(Search { target, want: Want::Value { salt }, then, via: None }).await
    }

    /// What is stored under a key; of several signed ones the newest. `salt`: that it was signed with.
    ///
    /// # Errors
    /// If too much is under way.
    pub async fn find_value(&self, target: Id, salt: &[u8]) -> Result<Option<Item>, Failed> {
        let want = Want::Value { salt: salt.to_vec() };
        match self.search(Search { target, want, then: Then::Nothing, via: None }, false).await? {
            Outcome::Value(item) => Ok(item),
            Outcome::Nodes(_) | Outcome::Peers(_) | Outcome::Stored(_) => Ok(None),
        }
    }

    /// Tells the nodes nearest to a hash that a peer for it is at this host, at `port`, or else at this node's port, and
    /// again twice an hour until this node ends. Returns how many say that they keep it.
    ///
    /// # Errors
    /// If too much is under way, or announced already.
    pub async fn announce(&self, hash: Id, port: Option<u16>) -> Result<usize, Failed> {
        let then = Then::Announce { port };
        self.put(Search { target: hash, want: Want::Peers, then, via: None }).await
    }

    /// Who was announced for a hash.
    ///
    /// # Errors
    /// If too much is under way.
    pub async fn find_peers(&self, hash: Id) -> Result<Vec<SocketAddrV4>, Failed> {
        match self
            .search(Search { target: hash, want: Want::Peers, then: Then::Nothing, via: None }, false)
            .await?
        {
            Outcome::Peers(peers) => Ok(peers),
            Outcome::Nodes(_) | Outcome::Value(_) | Outcome::Stored(_) => Ok(Vec::new()),
        }
    }

    /// Whom it knows, and what others see of it.
    ///
    /// # Errors
    /// If it was stopped.
    pub async fn routing_table(&self) -> Result<RoutingTable, Failed> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::RoutingTable { reply }).await?;
        answer.await.map_err(|_| Failed::Stopped)
    }

    /// Ends, and returns when its port is free again. What it stored at others stays there until its time is over.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.tell(Command::Stop { reply }).await.is_ok() {
            let _ = stopped.await;
        }
    }

    async fn put(&self, search: Search) -> Result<usize, Failed> {
        match self.search(search, true).await? {
            Outcome::Stored(nodes) => Ok(nodes),
            Outcome::Nodes(_) | Outcome::Peers(_) | Outcome::Value(_) => Ok(0),
        }
    }

    async fn search(&self, search: Search, keep: bool) -> Result<Outcome, Failed> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Search { search: Box::new(search), keep, reply }).await?;
        answer.await.map_err(|_| Failed::Stopped)?
    }

    async fn tell(&self, command: Command) -> Result<(), Failed> {
        self.commands.send(command).await.map_err(|_| Failed::Stopped)
    }
}

impl Failed {
    pub(super) fn full() -> Self {
        Self::Full { limit: KEPT_MAX }
    }
}
