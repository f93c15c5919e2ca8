//! Tries both directions: whom this node reaches, and who reaches it at what it tells others.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Status,
    addr::{self, GlobalScope},
    path::{Direction as Made, Path},
    status::{AddressSource, ExternalState, PeerStatus, Purpose},
};
use punchline_discovery::{
    kad::Health,
    verify::{Answerer, Direction, Directions, Route, Timed, Way},
};
use tokio::time::{sleep, timeout};

use super::Subject;
use crate::doctor::probe::probe;

/// For a peer that has to be reached to be found and connected.
const REACHED: Duration = Duration::from_secs(25);

/// For a peer that is connected to answer.
const ANSWER: Duration = Duration::from_secs(6);

/// Between two looks whether it is connected.
const LOOK: Duration = Duration::from_millis(250);

/// Peers that are asked, circuits that a stranger takes, and nodes of the DHT that are told.
const PEERS_MAX: usize = 4;
const CIRCUITS_MAX: usize = 3;
const NODES_MAX: usize = 4;

pub(super) async fn directions(subject: &Subject, peer: Option<PeerId>) -> Timed<Directions> {
    let begun = Instant::now();
    let (out, back) = tokio::join!(out(subject, peer), back(subject));
    let (mut ways, missed) = out;
    ways.extend(back);
    let to_be_found = matches!(subject.purpose, Purpose::BeFound { .. });
    Timed { took: begun.elapsed(), found: Directions { ways, to_be_found, missed } }
}

/// The ways to others; and the peer that had to be reached, if it was not.
async fn out(subject: &Subject, peer: Option<PeerId>) -> (Vec<Way>, Option<(PeerId, String)>) {
    if let Some(peer) = peer {
        return match reach(subject, peer).await {
            Ok(way) => (vec![way], None),
            Err(cause) => (Vec::new(), Some((peer, cause))),
        };
    }
    let status = subject.endpoint.status().await;
    let peers = status.iter().flat_map(|status| &status.peers).filter(|peer| peer.familiar);
    let asked = peers.take(PEERS_MAX).map(|peer| ask(subject, peer.peer));
    let asked = futures::future::join_all(asked).await;
    let nodes = subject.dht.status().await.into_iter().flat_map(|status| status.bootstraps);
    let healthy = nodes.filter(|node| node.health == Health::Healthy).take(NODES_MAX);
    let nodes = healthy.map(|node| Way {
        direction: Direction::Out,
        peer: node.peer,
        address: Some(node.address),
        route: Route::Direct,
        outcome: Ok(Answerer::Node),
        private: false,
    });
    let known = asked.into_iter().filter(|way| way.outcome.is_ok());
    (known.chain(nodes).collect(), None)
}

/// The peer is looked for, if need be.
async fn reach(subject: &Subject, peer: PeerId) -> Result<Way, String> {
    let until = Instant::now() + REACHED;
    subject.finder.seek(peer, Vec::new()).await;
    while Instant::now() < until {
        let status = subject.endpoint.status().await.ok_or("the node has ended")?;
        if status.peers.iter().any(|known| known.peer == peer) {
            let way = ask(subject, peer).await;
            return match &way.outcome {
                Ok(_) => Ok(way),
                Err(cause) => Err(cause.clone()),
            };
        }
        sleep(LOOK).await;
    }
    Err(format!("no connection within {} s", REACHED.as_secs()))
}

/// Its handshake proved who it is when the connection was made; this is the echo.
async fn ask(subject: &Subject, peer: PeerId) -> Way {
    let answered = timeout(ANSWER, subject.endpoint.ping(peer)).await;
    let (address, route, outcome) = match answered {
        Ok(Ok(pong)) => (Some(pong.connection.address), route(pong.connection.path), Ok(Answerer::Peer)),
        Ok(Err(error)) => (None, Route::Relayed, Err(error.to_string())),
        Err(_) => (None, Route::Relayed, Err(format!("no answer within {} s", ANSWER.as_secs()))),
    };
    Way { direction: Direction::Out, peer: Some(peer), address, route, outcome, private: false }
}

fn route(path: Path) -> Route {
    match path {
        Path::Direct => Route::Direct,
        Path::Relayed { .. } => Route::Relayed,
    }
}

/// The ways to this node, at the addresses that it tells everybody.
async fn back(subject: &Subject) -> Vec<Way> {
    let told = subject.finder.told();
    let Some(status) = subject.endpoint.status().await else { return Vec::new() };
    let (circuits, direct): (Vec<_>, Vec<_>) = told.into_iter().partition(addr::is_circuit);
    let mut ways: Vec<Way> = direct.into_iter().map(|address| at(address, &status)).collect();
    ways.extend(came(&status.peers));
    let means = subject.means();
    let tried = circuits.into_iter().take(CIRCUITS_MAX).map(|circuit| {
        let (means, local) = (means.clone(), subject.endpoint.peer_id());
        async move {
            let named = match circuit.iter().last() {
                Some(Protocol::P2p(_)) => circuit.clone(),
                _ => circuit.clone().with(Protocol::P2p(local)),
            };
            let outcome = probe(&named, &means, false).await.outcome;
            Way {
                direction: Direction::In,
                peer: None,
                address: Some(circuit),
                route: Route::Relayed,
                outcome: outcome.map(|()| Answerer::Stranger).map_err(|fault| fault.words().0),
                private: false,
            }
        }
    });
    ways.extend(futures::future::join_all(tried).await);
    ways
}

/// What this host dials of its own proves nothing of others. A relay that dialled the address back does.
fn at(address: Multiaddr, status: &Status) -> Way {
    let plain = without_peer(&address);
    let mut candidates = status.candidates.iter();
    let mut stated = status.external.iter();
    let confirmed = candidates.any(|candidate| {
        candidate.source == AddressSource::Confirmed && without_peer(&candidate.address) == plain
    }) || stated
        .any(|one| one.state == ExternalState::Confirmed && one.address == plain);
    let private = ip_of(&plain).is_some_and(|ip| !GlobalScope::default().contains(ip));
    let outcome = if confirmed { Ok(Answerer::Relay) } else { Err("no relay dialled it".to_owned()) };
    let (direction, route) = (Direction::In, Route::Direct);
    Way { direction, peer: None, address: Some(address), route, outcome, private }
}

/// Peers that came by themselves, each by its best way.
fn came(peers: &[PeerStatus]) -> impl Iterator<Item = Way> {
    let came = peers.iter().filter_map(|peer| {
        let inbound = |connection: &&punchline_bridge::status::ConnectionStatus| {
            connection.direction == Made::Inbound && !is_of_this_host(&connection.address)
        };
        let connection = peer.connections.iter().find(inbound)?;
        Some(Way {
            direction: Direction::In,
            peer: Some(peer.peer),
            address: None,
            route: route(connection.path),
            outcome: Ok(Answerer::Peer),
            private: false,
        })
    });
    came.take(PEERS_MAX)
}

fn is_of_this_host(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut plain = address.clone();
    while matches!(plain.iter().last(), Some(Protocol::P2p(_))) {
        plain.pop();
    }
    plain
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}
