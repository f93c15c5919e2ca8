//! Dials back, on a swarm of its own: says the nonce, and closes.

use std::{
    collections::HashMap,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncWriteExt as _, FutureExt as _, StreamExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, SwarmEvent, THandlerInEvent, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
        handler::{ConnectionEvent, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::UnderWay;
use crate::{
    error::StartError,
    net::{
        autonat::wire::{DIAL_BACK, DialBack, DialBackResponse, DialStatus},
        delimited,
        guard::Permits,
        transports,
    },
};

/// For a dial: TCP sends its first packet at 0, 1 and 3 s. An address that answers later is of no use.
const DIAL_DEADLINE: Duration = Duration::from_secs(6);

/// For the nonce to be said and answered.
const SAY_DEADLINE: Duration = Duration::from_secs(4);

/// Requests that the task has not taken yet. No more come than may be under way.
const DIALS_MAX: usize = 8;

#[derive(Debug)]
struct Dial {
    peer: PeerId,
    address: Multiaddr,
    nonce: u64,
    under_way: UnderWay,
    done: oneshot::Sender<DialStatus>,
}

/// A task that dials; it ends with this.
#[derive(Debug)]
pub(super) struct Dialer(mpsc::Sender<Dial>);

impl Dialer {
    pub(super) fn start(permits: &Permits) -> Result<Self, StartError> {
        let swarm = transports::dialer(Sayer::default(), permits, DIAL_DEADLINE)?;
        let (dials, asked) = mpsc::channel(DIALS_MAX);
        tokio::spawn(run(swarm, asked));
        Ok(Self(dials))
    }

    /// Dials and says the nonce to the peer, which must be there.
    pub(super) async fn dial(
        &self,
        peer: PeerId,
        address: Multiaddr,
        nonce: u64,
        under_way: UnderWay,
    ) -> DialStatus {
        let (done, answer) = oneshot::channel();
        let asked = self.0.send(Dial { peer, address, nonce, under_way, done }).await;
        if asked.is_err() {
            DialStatus::DialError
        } else {
            answer.await.unwrap_or(DialStatus::DialError)
        }
    }
}

/// The dials under way, and who waits for how they end.
type Dials = HashMap<ConnectionId, (UnderWay, oneshot::Sender<DialStatus>)>;

async fn run(mut swarm: Swarm<Sayer>, mut asked: mpsc::Receiver<Dial>) {
    let mut dials = Dials::new();
    loop {
        let (connection, status) = tokio::select! {
            dial = asked.recv() => match dial {
                Some(dial) => {
                    begin(&mut swarm, dial, &mut dials);
                    continue;
                }
                None => return,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::OutgoingConnectionError { connection_id, .. } => (connection_id, DialStatus::DialError),
                SwarmEvent::Behaviour((connection, said)) => {
                    (connection, if said { DialStatus::Ok } else { DialStatus::DialBackError })
                }
                SwarmEvent::ConnectionClosed { connection_id, .. } => (connection_id, DialStatus::DialBackError),
                _ => continue,
            },
        };
        swarm.behaviour_mut().nonces.remove(&connection);
        swarm.close_connection(connection);
        if let Some((under_way, done)) = dials.remove(&connection) {
            // First, so that whoever hears of the end can ask again.
            drop(under_way);
            let _ = done.send(status);
        }
    }
}

fn begin(swarm: &mut Swarm<Sayer>, dial: Dial, dials: &mut Dials) {
    let Dial { peer, address, nonce, under_way, done } = dial;
    let opts = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always);
    let opts = opts.allocate_new_port().build();
    let connection = opts.connection_id();
    match swarm.dial(opts) {
        Ok(()) => {
            swarm.behaviour_mut().nonces.insert(connection, nonce);
            dials.insert(connection, (under_way, done));
        }
        Err(_) => drop(done.send(DialStatus::DialError)),
    }
}

/// Gives each connection its nonce.
#[derive(Default)]
struct Sayer {
    nonces: HashMap<ConnectionId, u64>,
    said: Vec<(ConnectionId, bool)>,
}

impl NetworkBehaviour for Sayer {
    type ConnectionHandler = Say;
    type ToSwarm = (ConnectionId, bool);

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Say, ConnectionDenied> {
        Err(ConnectionDenied::new(io::Error::other("it does not listen")))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Say, ConnectionDenied> {
        Ok(Say { nonce: self.nonces.get(&connection).copied(), saying: None })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, said: bool) {
        self.said.push((connection, said));
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ToSwarm<(ConnectionId, bool), THandlerInEvent<Self>>> {
        self.said.pop().map_or(Poll::Pending, |said| Poll::Ready(ToSwarm::GenerateEvent(said)))
    }
}

/// Says a nonce once.
struct Say {
    nonce: Option<u64>,
    saying: Option<BoxFuture<'static, bool>>,
}

impl ConnectionHandler for Say {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = bool;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, never: std::convert::Infallible) {
        match never {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, u64, bool>> {
        if let Some(nonce) = self.nonce.take() {
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(DIAL_BACK), nonce).with_timeout(SAY_DEADLINE);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        let Some(saying) = &mut self.saying else { return Poll::Pending };
        let said = std::task::ready!(saying.poll_unpin(cx));
        self.saying = None;
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(said))
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, DeniedUpgrade, ReadyUpgrade<StreamProtocol>, (), u64>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: io,
                info: nonce,
            }) => {
                let saying = tokio::time::timeout(SAY_DEADLINE, say(io, nonce));
                self.saying = Some(saying.map(|said| matches!(said, Ok(Ok(())))).boxed());
            }
            ConnectionEvent::DialUpgradeError(_) => {
                self.saying = Some(std::future::ready(false).boxed());
            }
            _ => {}
        }
    }
}

async fn say(mut io: Stream, nonce: u64) -> io::Result<()> {
    delimited::write(&mut io, &DialBack { nonce }).await?;
    delimited::read::<DialBackResponse>(&mut io).await?;
    io.close().await
}
