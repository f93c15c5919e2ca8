//! The running peer: upstream's adaptor, and the flows of a session that every node has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use kaspa_p2p_lib::{
    Adaptor, ConnectionError, ConnectionInitializer, Hub, IncomingRoute, KaspadHandshake,
    KaspadMessagePayloadType as Kind, Peer as ActivePeer, PeerKey, PeerProperties, Router,
    common::ProtocolError,
    convert::model::version::Version,
    make_message,
    pb::{KaspadMessage, PongMessage, RequestAddressesMessage, kaspad_message::Payload},
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::journal::{self, DEADLINE, Missing};
use crate::manners::Manners;

/// A peer that listens, dials, and keeps its sessions.
///
/// # Drop
/// Ends them.
pub struct Peer {
    adaptor: Arc<Adaptor>,
    node: Arc<Node>,
    address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
}

/// A message that no flow of the peer took.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Whose it is.
    pub from: PeerKey,
    /// The id of the route it came by: the one that answers are to carry back.
    pub route: u32,
    /// The message.
    pub message: KaspadMessage,
}

impl Peer {
    /// Starts a peer that listens on `address`: upstream does not tell which port the system chose, so it must not be 0. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(address: SocketAddr, manners: Manners) -> Result<Self, ConnectionError> {
        journal::open();
        let (told, heard) = mpsc::channel(HEARD_MAX);
        let hub = Hub::new();
        let node = Arc::new(Node { hub: hub.clone(), manners: Mutex::new(manners), told });
        let adaptor = Adaptor::bidirectional(address.into(), hub, node.clone(), Default::default())?;
        timeout(DEADLINE, listens(address)).await.map_err(std::io::Error::from)?;
        Ok(Self { adaptor, node, address, heard })
    }

    /// Behaves otherwise in the connections to come.
    pub fn behave(&self, manners: Manners) {
        *self.node.manners.lock().unwrap_or_else(PoisonError::into_inner) = manners;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Dials `address` once and shakes hands.
    ///
    /// # Errors
    /// Upstream's; after a Reject of the other side, that the connection is closed.
    pub async fn dial(&self, address: SocketAddr) -> Result<PeerKey, ConnectionError> {
        self.adaptor.connect_peer(address.to_string()).await
    }

    /// The peers it is in session with.
    pub fn active_peers(&self) -> Vec<ActivePeer> {
        self.adaptor.active_peers()
    }

    /// Waits until it is in session with exactly one peer.
    ///
    /// # Errors
    /// If it is not within [`DEADLINE`].
    pub async fn one_active_peer(&self) -> Result<ActivePeer, Missing> {
        let one = || Some(self.active_peers()).filter(|peers| peers.len() == 1)?.pop();
        journal::until("one active peer", one).await
    }

    /// Waits until it is in session with nobody.
    ///
    /// # Errors
    /// If it still is after [`DEADLINE`].
    pub async fn nobody_active(&self) -> Result<(), Missing> {
        journal::until("no active peer", || self.active_peers().is_empty().then_some(())).await
    }

    /// Sends `message`; `false` if there is no session with `to`.
    pub async fn say(&self, to: PeerKey, message: KaspadMessage) -> bool {
        matches!(self.adaptor.send(to, message).await, Ok(true))
    }

    /// Ends the session with `peer`.
    pub async fn leave(&self, peer: PeerKey) {
        self.adaptor.terminate(peer).await;
    }

    /// The next message of any peer for which `pick` gives a value; others are thrown away. `None`
    /// if there is none within [`DEADLINE`].
    pub async fn hear<T>(&mut self, pick: impl Fn(Heard) -> Option<T>) -> Option<T> {
        let hear = async {
            loop {
                let heard = self.heard.recv().await?;
                if let Some(picked) = pick(heard) {
                    return Some(picked);
                }
            }
        };
        timeout(DEADLINE, hear).await.ok().flatten()
    }
}

/// Upstream begins to listen in a task of its own, and does not tell when.
async fn listens(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// What upstream asks for every new connection.
struct Node {
    hub: Hub,
    manners: Mutex<Manners>,
    told: mpsc::Sender<Heard>,
}

#[tonic::async_trait]
impl ConnectionInitializer for Node {
    async fn initialize_connection(&self, router: Arc<Router>) -> Result<(), ProtocolError> {
        let manners = self.manners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut handshake = KaspadHandshake::new(&router);
        router.start();
        let theirs = Version::try_from(handshake.handshake(manners.version()).await?)?;
        router.set_identity(theirs.id);
        manners.demands.check(&router, &self.hub, &theirs)?;
        router.set_properties(Arc::new(PeerProperties {
            user_agent: theirs.user_agent.clone(),
            advertised_protocol_version: theirs.protocol_version,
            protocol_version: manners.agree(&theirs),
            disable_relay_tx: theirs.disable_relay_tx,
            subnetwork_id: theirs.subnetwork_id,
            time_offset: unix_now_ms() - theirs.timestamp as i64,
        }));
        let answered = router.subscribe(vec![Kind::Ping, Kind::RequestAddresses]);
        let told = router.subscribe(TOLD.to_vec());
        handshake.exchange_ready_messages().await?;
        tokio::spawn(answer(Arc::clone(&router), answered, manners));
        tokio::spawn(tell(router.key(), told, self.told.clone()));
        let question = RequestAddressesMessage { include_all_subnetworks: false, subnetwork_id: None };
        router.enqueue(make_message!(Payload::RequestAddresses, question)).await
    }
}

/// What tests want to see, and a session of ours may send.
const TOLD: &[Kind] = &[
    Kind::Addresses,
    Kind::Block,
    Kind::InvRelayBlock,
    Kind::InvTransactions,
    Kind::Pong,
    Kind::RequestRelayBlocks,
];

/// Answers what every node answers, until the session ends.
async fn answer(router: Arc<Router>, mut questions: IncomingRoute, manners: Manners) {
    while let Some(question) = questions.recv().await {
        let answer = match question.payload {
            Some(Payload::Ping(ping)) => Payload::Pong(PongMessage { nonce: ping.nonce }),
            Some(Payload::RequestAddresses(_)) => Payload::Addresses(manners.known_addresses()),
            _ => continue,
        };
        let answer = KaspadMessage { payload: Some(answer), response_id: 0, request_id: 0 };
        if router.enqueue(answer).await.is_err() {
            return;
        }
    }
}

/// Hands the rest to the test, until the session ends.
async fn tell(from: PeerKey, mut messages: IncomingRoute, told: mpsc::Sender<Heard>) {
    let route = messages.id();
    while let Some(message) = messages.recv().await {
        if told.send(Heard { from, route, message }).await.is_err() {
            return;
        }
    }
}

fn unix_now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Messages that a test may leave unheard: then the peer reads no further, and upstream ends a session
/// that has left as many again.
const HEARD_MAX: usize = 256;
