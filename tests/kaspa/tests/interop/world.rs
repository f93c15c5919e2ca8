//! Our node on plain TCP, and a loopback network of its own for each test: upstream knows peers by
//! their ip address, and logs it.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use punchline_kaspa_tests::{Manners, Peer};
use punchline_protocol::{
    Acceptor, DialError, HandshakeError, Inbound, Network, Node, NodeConfig, Remote, Session,
    SessionEvent, kaspa_id,
};
use punchline_tests::ports::free_port;
use tokio::time::timeout;
use tonic::transport::{
    Channel, Endpoint, Server,
    server::{TcpConnectInfo, TcpIncoming},
};
use uuid::Uuid;

/// For anything between two peers of one machine; longer than any deadline of a handshake.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The network that both sides are on, unless a test says otherwise.
pub(crate) const NETWORK: &str = "kaspa-simnet";

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> Result<T> {
    timeout(SOON, what).await.context("it did not happen in time")
}

/// Who dials.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialler {
    Ours,
    Theirs,
}

pub(crate) const EITHER: [Dialler; 2] = [Dialler::Ours, Dialler::Theirs];

/// Two addresses of this machine that no other test uses.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) ours: IpAddr,
    pub(crate) theirs: IpAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        static TAKEN: AtomicU8 = AtomicU8::new(1);
        let net = TAKEN.fetch_add(1, Ordering::Relaxed);
        let host = |host| IpAddr::V4(Ipv4Addr::new(127, 77, net, host));
        Self { ours: host(1), theirs: host(2) }
    }

    /// How upstream's log names us, whoever dials: with a port behind it.
    pub(crate) fn name_of_ours(&self) -> String {
        format!("{}:", self.ours)
    }

    /// A node as this place's only one of ours.
    pub(crate) fn config(&self) -> NodeConfig {
        NodeConfig::new(Network::Simnet, self.ours.to_string().into_bytes())
    }

    /// The Kaspa id of such a node.
    pub(crate) fn kaspa_id(&self) -> Uuid {
        kaspa_id(&self.config().peer_id_bytes)
    }

    pub(crate) async fn ours(&self, config: NodeConfig) -> Result<Ours> {
        Ours::start(self.ours, config).await
    }

    pub(crate) async fn theirs(&self, manners: Manners) -> Result<Peer> {
        Ok(Peer::start(free_port(self.theirs)?, manners).await?)
    }

    /// A stock peer and our node, each as at its default.
    pub(crate) async fn both(&self) -> Result<(Ours, Peer)> {
        Ok((self.ours(self.config()).await?, self.theirs(Manners::stock(NETWORK)).await?))
    }
}

/// Our node, listening.
pub(crate) struct Ours {
    ip: IpAddr,
    pub(crate) node: Node,
    pub(crate) acceptor: Acceptor,
    pub(crate) address: SocketAddr,
}

impl Ours {
    async fn start(ip: IpAddr, config: NodeConfig) -> Result<Self> {
        let node = Node::new(config);
        let acceptor = node.acceptor(|extensions| {
            let address = extensions.get::<TcpConnectInfo>()?.remote_addr()?;
            Some(Remote { peer_id_bytes: None, address })
        });
        let listener = TcpIncoming::bind(SocketAddr::new(ip, 0))?;
        let address = listener.local_addr()?;
        let router = Server::builder().add_service(acceptor.service());
        tokio::spawn(router.serve_with_incoming(listener));
        Ok(Self { ip, node, acceptor, address })
    }

    /// A channel from our address.
    pub(crate) fn channel(&self, to: SocketAddr) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{to}"))?;
        Ok(endpoint.local_address(Some(self.ip)).connect_lazy())
    }

    pub(crate) async fn dial(&self, to: SocketAddr) -> Result<Result<Session, DialError>> {
        let remote = Remote { peer_id_bytes: None, address: to };
        soon(self.node.dial(self.channel(to)?, remote)).await
    }

    /// What came of the next inbound call.
    pub(crate) async fn inbound(&mut self) -> Result<Result<Session, HandshakeError>> {
        match soon(self.acceptor.next()).await? {
            Inbound::Ready(session) => Ok(Ok(session)),
            Inbound::Failed { error, .. } => Ok(Err(error)),
            Inbound::Refused { limit, .. } => bail!("refused: {limit}"),
        }
    }

    /// What our side makes of one handshake with `theirs`.
    pub(crate) async fn meet(
        &mut self,
        theirs: &Peer,
        dialler: Dialler,
    ) -> Result<Result<Session, HandshakeError>> {
        match dialler {
            Dialler::Ours => match self.dial(theirs.address()).await? {
                Ok(session) => Ok(Ok(session)),
                Err(DialError::Handshake(error)) => Ok(Err(error)),
                Err(other) => Err(other.into()),
            },
            Dialler::Theirs => {
                // Its own side of it is in its log.
                let (_, ours) = tokio::join!(theirs.dial(self.address), self.inbound());
                ours
            }
        }
    }

    /// A session with `theirs`.
    pub(crate) async fn session(&mut self, theirs: &Peer, dialler: Dialler) -> Result<Session> {
        let session = self.meet(theirs, dialler).await??;
        theirs.one_active_peer().await?;
        Ok(session)
    }
}

/// The next event of the session for which `pick` gives a value.
pub(crate) async fn event<T>(
    session: &mut Session,
    pick: impl Fn(SessionEvent) -> Option<T>,
) -> Result<T> {
    let next = async {
        loop {
            let event = session.next().await?;
            if let Some(picked) = pick(event) {
                return Some(picked);
            }
        }
    };
    soon(next).await?.context("the session has ended")
}
