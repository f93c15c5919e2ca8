//! `punchline server`: answers Kaspa handshakes and keeps the sessions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;
use punchline_bridge::{
    Path,
    grpc::{self, ConnectInfo},
};
use punchline_protocol::{Acceptor, Inbound, NodeConfig, Remote, Session};
use tokio::task::JoinSet;

use crate::{
    Context, cli,
    node::{KASPA_SERVICE, Node},
    report::{Reporter, SessionEvent},
    session, stop,
};

/// Runs a server until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn run(settings: cli::Server, context: Context) -> anyhow::Result<()> {
    let Some(node) = Node::start(&settings.node, &context).await? else { return Ok(()) };
    for relay in node.relays.clone() {
        node.endpoint.reserve(relay).await;
    }
    let peer = node.endpoint.peer_id();
    for relay in &node.relays {
        tracing::info!(
            "peers use: punchline client --network {} --peer {peer} --relay {relay}",
            settings.network
        );
    }
    let mut config = NodeConfig::new(settings.network, peer.to_bytes());
    config.advertised = settings.advertise;
    let kaspa = punchline_protocol::Node::new(config);
    let callers = Callers::default();
    let acceptor = kaspa.acceptor({
        let callers = callers.clone();
        move |extensions| callers.remember(extensions.get::<ConnectInfo>()?)
    });
    let incoming = node.endpoint.incoming(KASPA_SERVICE.parse()?).await?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("protowire.P2P", tonic_health::ServingStatus::Serving).await;
    let router = grpc::server().add_service(acceptor.service()).add_service(health_service);
    let serving = tokio::spawn(router.serve_with_incoming(incoming));

    tokio::select! {
        () = accept(acceptor, callers, context.reporter.clone()) => {}
        () = stop::told() => {}
    }
    stop::drain(async {
        kaspa.shutdown().await;
        serving.abort();
        node.shutdown().await;
    })
    .await;
    Ok(())
}

/// Who called last from where: the protocol knows a peer's bytes, the report wants its path.
#[derive(Clone, Default)]
struct Callers(Arc<Mutex<HashMap<PeerId, ConnectInfo>>>);

impl Callers {
    fn remember(&self, caller: &ConnectInfo) -> Option<Remote> {
        let peer = caller.peer();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, caller.clone());
        Some(Remote { peer_id_bytes: Some(peer.to_bytes()), address: caller.socket_addr() })
    }

    fn path(&self, peer: &PeerId) -> Option<Path> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(peer)?.path())
    }

    fn forget(&self, peer: &PeerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }
}

async fn accept(mut acceptor: Acceptor, callers: Callers, reporter: Reporter) {
    let mut sessions = JoinSet::new();
    loop {
        let inbound = tokio::select! {
            inbound = acceptor.next() => inbound,
            Some(_) = sessions.join_next() => continue,
        };
        match inbound {
            Inbound::Ready(ready) => {
                sessions.spawn(keep(ready, callers.clone(), reporter.clone()));
            }
            Inbound::Failed { remote, error } => {
                let Some(peer) = session::peer_of(&remote) else { continue };
                reporter.report(SessionEvent::HandshakeFailed { peer, reason: error.to_string() });
            }
            Inbound::Refused { remote, limit } => {
                let Some(peer) = session::peer_of(&remote) else { continue };
                reporter.report(SessionEvent::HandshakeFailed { peer, reason: limit.to_string() });
            }
        }
    }
}

async fn keep(mut ready: Session, callers: Callers, reporter: Reporter) {
    let Some(peer) = session::peer_of(&ready.facts().remote) else { return };
    let Some(path) = callers.path(&peer) else { return };
    reporter.report(session::ready(peer, &ready, path));
    while let Some(event) = ready.next().await {
        let path = callers.path(&peer).unwrap_or(path);
        if let Some(event) = session::report(peer, event, path) {
            reporter.report(event);
        }
    }
    let cause = ready.ended().await.to_string();
    reporter.report(SessionEvent::SessionEnded { peer, cause });
    callers.forget(&peer);
}
