//! `punchline server`: answers Kaspa handshakes and keeps the sessions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use libp2p::PeerId;
use punchline_bridge::{
    Service,
    grpc::{self, ConnectInfo},
};
use punchline_protocol::{Acceptor, Inbound, NodeConfig, Remote, Session};
use tokio::task::JoinSet;

use crate::{
    Context, cli,
    control::{Forwarded, Offered, Offers, Reread},
    load,
    node::{self, KASPA_SERVICE, Node, Places, Wanted},
    rehearsal::Rehearsal,
    report::{Reporter, SessionEvent},
    session, stop,
};

/// Runs a server until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn run(settings: cli::Server, context: Context) -> anyhow::Result<()> {
    Places::of(&settings.node)?;
    if context.check {
        return node::check(&settings.node);
    }
    let rehearsal = Rehearsal::new(settings.rehearse);
    let mut node = Node::start(&settings.node, &context, Wanted::default()).await?;
    rehearsal.prepare(&node.endpoint).await;
    node.endpoint.reserve_all(node.relays.clone()).await;
    node.join_namespaces(&settings.node, &[], vec![KASPA_SERVICE.to_owned()]).await?;
    let peer = node.endpoint.peer_id();
    let ways = node.ways();
    let invitation =
        format!("peers use: punchline client --network {} --peer {peer}{ways}", settings.network);
    let lines = vec![format!("this node is {peer}"), invitation];
    node.say_when_usable(lines);
    let mut config = NodeConfig::new(settings.network, peer.to_bytes());
    config.advertised = settings.advertise;
    let kaspa = punchline_protocol::Node::new(config);
    let callers = Callers::default();
    let acceptor = kaspa.acceptor({
        let callers = callers.clone();
        move |extensions| callers.remember(extensions.get::<ConnectInfo>()?)
    });
    let incoming = node.endpoint.incoming(KASPA_SERVICE.parse()?).await?;
    node.board.set(Sessions(KASPA_SERVICE.parse()?));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("protowire.P2P", tonic_health::ServingStatus::Serving).await;
    let router = grpc::server()
        .add_service(acceptor.service())
        .add_service(load::service(context.reporter.clone()))
        .add_service(health_service);
    let serving = tokio::spawn(router.serve_with_incoming(incoming));

    tokio::select! {
        () = accept(acceptor, callers, &rehearsal, context.reporter.clone()) => {}
        () = rehearsal.follow(&node.endpoint, &context.reporter) => {}
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

/// What a server offers, for those who ask it.
struct Sessions(Service);

impl Offers for Sessions {
    fn services(&self) -> Vec<Offered> {
        vec![Offered {
            service: self.0.clone(),
            target: None,
            anybody: true,
            tickets: false,
            allowed: Vec::new(),
            connections_max: None,
        }]
    }

    fn forwards(&self) -> Vec<Forwarded> {
        Vec::new()
    }

    fn reread(&self) -> Result<Vec<Reread>, String> {
        Ok(Vec::new())
    }

    fn hang_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Who is calling, from where: the protocol knows a peer's bytes, the report wants its path. Holds an
/// entry from a call until its outcome, so it is bounded by the calls that the protocol admits.
#[derive(Clone, Default)]
struct Callers(Arc<Mutex<HashMap<PeerId, Calls>>>);

struct Calls {
    pending: usize,
    last: ConnectInfo,
}

impl Callers {
    fn remember(&self, caller: &ConnectInfo) -> Option<Remote> {
        let peer = caller.peer();
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = callers.entry(peer).or_insert_with(|| Calls { pending: 0, last: caller.clone() });
        calls.pending += 1;
        calls.last = caller.clone();
        Some(Remote { peer_id_bytes: Some(peer.to_bytes()), address: caller.socket_addr() })
    }

    /// One call of the peer has come to something. Whence its last call came.
    fn settle(&self, peer: &PeerId) -> Option<ConnectInfo> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = callers.get_mut(peer)?;
        let last = calls.last.clone();
        calls.pending -= 1;
        if calls.pending == 0 {
            callers.remove(peer);
        }
        Some(last)
    }
}

async fn accept(mut acceptor: Acceptor, callers: Callers, rehearsal: &Rehearsal, reporter: Reporter) {
    let mut sessions = JoinSet::new();
    loop {
        let inbound = tokio::select! {
            inbound = acceptor.next() => inbound,
            Some(_) = sessions.join_next() => continue,
        };
        let remote = match &inbound {
            Inbound::Ready(ready) => &ready.facts().remote,
            Inbound::Failed { remote, .. } | Inbound::Refused { remote, .. } => remote,
        };
        let Some(peer) = session::peer_of(remote) else { continue };
        let Some(caller) = callers.settle(&peer) else { continue };
        let reason = match inbound {
            Inbound::Ready(ready) => {
                rehearsal.plays_on(caller.facts());
                sessions.spawn(keep(ready, caller, reporter.clone()));
                continue;
            }
            Inbound::Failed { error, .. } => error.to_string(),
            Inbound::Refused { limit, .. } => limit.to_string(),
        };
        reporter.report(SessionEvent::HandshakeFailed { peer, reason, last: false });
    }
}

async fn keep(mut ready: Session, caller: ConnectInfo, reporter: Reporter) {
    let peer = caller.peer();
    reporter.report(session::ready(peer, &ready, caller.path()));
    // A server of ours only keeps sessions: what peers announce is read, and not followed up.
    while ready.next().await.is_some() {}
    let cause = ready.ended().await.to_string();
    reporter.report(SessionEvent::SessionEnded { peer, cause });
}
