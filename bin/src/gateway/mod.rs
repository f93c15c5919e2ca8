//! Unmodified programs, reached from afar: `punchline expose`, `punchline forward` and `punchline run`.
//!
//! Reading order: here a process with any number of both is put together; `expose` lets peers in to a
//! `target`, `forward` stands in for a peer's service at a `local` address (`forwarding` is what it is told, `whom` who
//! may answer, and `follow` finds them), and `splice` joins
//! what comes from one side to the other. `socket` is a local connection, `seats` counts those of a
//! service, `shares` divides a peer's streams among services, `event` says what happened, `doing` what goes on, and
//! `share` prints what the other side is to run.

mod doing;
pub mod event;
mod expose;
#[cfg(feature = "kad")]
mod follow;
mod forward;
mod forwarding;
mod local;
mod next_step;
mod seats;
mod share;
mod shares;
mod socket;
mod splice;
mod target;
mod whom;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use tokio::{sync::watch, task::JoinSet, time::timeout};

pub(crate) use self::next_step::next_step;
use self::{
    doing::Doing,
    expose::{Exposed, Exposure},
    forward::Forward,
    forwarding::Forwarding,
    local::Listener,
    share::Sharing,
    shares::shares,
    whom::Candidates,
};
use crate::{
    Context, Unusable,
    access::{Gate, Ledger, Routes},
    cli, finding,
    node::{self, Node, Places, Wanted},
    report::Reporter,
    stop,
};

/// Whichever clock ends an open, its error says what was awaited; that of a forward knows about all members.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// After the signal to stop, live connections may end by themselves for this long; then they are reset.
/// 1.5 s: an answer that is under way arrives, and the rest fits into the deadline of the stop.
const GRACE: Duration = Duration::from_millis(1_500);

/// `punchline expose`: makes programs reachable to peers until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn expose(settings: cli::Expose, context: Context) -> anyhow::Result<()> {
    let exposures = Exposure::of_flags(&settings, &context.names, context.named_identity.as_deref())?;
    let (forwardings, namespaces) = (Vec::new(), Vec::new());
    run_plan(Plan { node: settings.node, namespaces, exposures, forwardings }, context).await
}

/// `punchline forward`: a peer's service on a local port, until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn forward(settings: cli::Forward, context: Context) -> anyhow::Result<()> {
    let (relays, myself) = (Places::of(&settings.node)?.relays, context.keypair.public().to_peer_id());
    let found = Findable::of(&settings.node, &context)?;
    let forwardings = vec![Forwarding::of(&settings.way, &relays, myself, &context.names, &found)?];
    let (exposures, namespaces) = (Vec::new(), Vec::new());
    run_plan(Plan { node: settings.node, namespaces, exposures, forwardings }, context).await
}

/// `punchline run`: all that the tables of the settings file ask for, in one process.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn run(settings: cli::Run, context: Context) -> anyhow::Result<()> {
    let (relays, myself) = (Places::of(&settings.node)?.relays, context.keypair.public().to_peer_id());
    let names = &context.names;
    let exposures = settings.expose.iter().map(|table| Exposure::of_table(table, names));
    let exposures = exposures.collect::<Result<_, _>>()?;
    let found = Findable::of(&settings.node, &context)?;
    let of_table = |table| Forwarding::of_table(table, &relays, myself, names, &found);
    let forwardings = settings.forward.iter().map(of_table);
    let forwardings = forwardings.collect::<Result<_, _>>()?;
    #[cfg(feature = "kad")]
    let namespaces: Vec<String> =
        settings.expose.iter().flat_map(|table| cli::all(&table.namespace)).collect();
    #[cfg(feature = "kad")]
    found.space.namespaces(&namespaces)?;
    #[cfg(not(feature = "kad"))]
    let namespaces = Vec::new();
    run_plan(Plan { node: settings.node, namespaces, exposures, forwardings }, context).await
}

/// Whom a forward may find by itself.
#[derive(Clone)]
pub(super) struct Findable {
    /// Peers may be found to which no way is named.
    peers: bool,
    /// There is a DHT to look things up in.
    #[cfg(feature = "kad")]
    dht: bool,
    /// Those in which any member will do.
    #[cfg(feature = "kad")]
    namespaces: Vec<punchline_discovery::keys::Namespace>,
    /// How namespaces are named here.
    #[cfg(feature = "kad")]
    space: finding::members::Space,
}

impl Findable {
    fn of(node: &cli::Node, context: &Context) -> Result<Self, Unusable> {
        let sources = finding::sources(node, context)?;
        Ok(Self {
            peers: sources.finds(),
            #[cfg(feature = "kad")]
            dht: sources.kad.is_some(),
            #[cfg(feature = "kad")]
            namespaces: finding::members::namespaces(node)?,
            #[cfg(feature = "kad")]
            space: finding::members::Space::of(node)?,
        })
    }

    /// For a table that has namespaces of its own.
    #[cfg(feature = "kad")]
    fn of_table(&self, names: &[cli::Many<String>]) -> Result<Self, Unusable> {
        let own = self.space.namespaces(&cli::all(names))?;
        let namespaces = if own.is_empty() { self.namespaces.clone() } else { own };
        Ok(Self { namespaces, ..self.clone() })
    }
}

/// What a process is to do.
struct Plan {
    node: cli::Node,
    /// Namespaces in which its services are, beside those of the node.
    namespaces: Vec<String>,
    exposures: Vec<Exposure>,
    forwardings: Vec<Forwarding>,
}

impl Plan {
    /// The peers that it is to find, if that is all that it is for. Each forward has a clock of its own, and the bridge is
    /// not to give up before.
    fn wanted(&self) -> Wanted {
        let wanted = self.forwardings.iter().filter(|_| self.exposures.is_empty());
        Wanted {
            peers: wanted.filter_map(|forwarding| forwarding.whom.peer()).collect(),
            within: self.forwardings.iter().map(|forwarding| forwarding.within + CLOCKS_DIFFER).max(),
        }
    }

    /// What no single part can know.
    fn check(&self) -> Result<(), Unusable> {
        if self.exposures.is_empty() && self.forwardings.is_empty() {
            let remedy = "there is nothing to run: name a file with [[expose]] or [[forward]] tables with --config";
            return Err(Unusable(remedy.to_owned()));
        }
        let limit = self.node.max_streams_per_peer;
        let of_services = self.exposures.iter().filter_map(|exposure| exposure.max_connections_per_peer);
        let of_forwards = self.forwardings.iter().filter_map(|forwarding| forwarding.max_connections);
        let wanted = of_services.map(|wanted| ("--max-connections-per-peer", wanted));
        let mut wanted = wanted.chain(of_forwards.map(|wanted| ("--max-connections", wanted)));
        if let Some((flag, wanted)) = wanted.find(|(_, wanted)| *wanted > limit) {
            return Err(Unusable(format!(
                "{flag} {wanted} is more than the {limit} streams that one peer may have; raise --max-streams-per-peer, here and there"
            )));
        }
        let mut seen = HashSet::new();
        match self.exposures.iter().find(|exposure| !seen.insert(&exposure.service)) {
            Some(twice) => {
                let service = &twice.service;
                Err(Unusable(format!("`{service}` is exposed twice; give one of the two another name")))
            }
            None => Ok(()),
        }
    }
}

impl Plan {
    /// A peer's streams are divided among the services that it may use, and ours to a peer among the
    /// forwards to it.
    fn share(&mut self) {
        let limit = self.node.max_streams_per_peer;
        let mut groups: HashMap<PeerId, Vec<&mut Option<usize>>> = HashMap::new();
        for forwarding in &mut self.forwardings {
            let Some(peer) = forwarding.whom.peer() else { continue };
            groups.entry(peer).or_default().push(&mut forwarding.max_connections);
        }
        let services = self.exposures.iter_mut().map(|exposure| &mut exposure.max_connections_per_peer);
        for group in groups.into_values().chain([services.collect()]) {
            let wanted: Vec<usize> = group.iter().map(|wanted| wanted.unwrap_or(limit)).collect();
            let shares = shares(limit, &wanted);
            if shares != wanted {
                tracing::info!(
                    ?shares,
                    limit,
                    "the streams of a peer are shared; --max-streams-per-peer raises their number"
                );
            }
            for (wanted, share) in group.into_iter().zip(shares) {
                *wanted = Some(share);
            }
        }
    }
}

/// Whether the grace after the signal to stop is over.
#[derive(Clone)]
struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Returns when it is.
    async fn closed(&self) {
        // The sender lives as long as anybody waits here.
        let _ = self.0.clone().wait_for(|closed| *closed).await;
    }
}

async fn run_plan(mut plan: Plan, context: Context) -> anyhow::Result<()> {
    plan.check()?;
    Places::of(&plan.node)?;
    plan.share();
    let issuer = context.keypair.public().to_peer_id();
    let gates = plan.exposures.iter().map(|exposure| exposure.gate(issuer, &context.ledger));
    let gates = gates.collect::<Result<Vec<Gate>, _>>()?;
    if context.check {
        return node::check(&plan.node);
    }
    let reloads = stop::reloads();
    share::settle(&plan.exposures, &Ledger::at(context.ledger.clone()))?;
    // What is wrong on this machine is said before any peer is bothered.
    let mut listeners = Vec::new();
    for forwarding in &plan.forwardings {
        let mut of_each = Vec::new();
        for local in forwarding.locals()? {
            of_each.push(Listener::bind(&local).await?);
        }
        listeners.push(of_each);
    }
    for relay in plan.forwardings.iter().flat_map(Forwarding::relays) {
        context.reporter.names_relay(relay);
    }
    context.reporter.knows(plan.forwardings.iter().filter_map(|forwarding| forwarding.whom.peer()));
    let mut node = Node::start(&plan.node, &context, plan.wanted()).await?;
    let (close, closing) = watch::channel(false);
    let closing = Closing(closing);
    let mut serving = JoinSet::new();
    announce(&plan.exposures, &mut node);
    let sharing = share(&plan.exposures, &node, &context);
    let exposed =
        start_exposing(std::mem::take(&mut plan.exposures), gates, &context.reporter, &closing);
    for exposed in &exposed {
        context.reporter.knows(exposed.listed());
        node.endpoint.welcome(exposed.service().clone(), exposed.listed()).await;
        let requests =
            node.endpoint.requests_with(exposed.service().clone(), exposed.patience()).await?;
        serving.spawn(exposed.clone().serve(requests));
    }
    if !exposed.is_empty() {
        node.endpoint.reserve_all(node.relays.clone()).await;
        let services = exposed.iter().map(|exposed| exposed.service().to_string()).collect();
        node.join_namespaces(&plan.node, &plan.namespaces, services).await?;
    }
    let mut forwards = Vec::new();
    for (forwarding, listeners) in plan.forwardings.into_iter().zip(listeners) {
        let candidates = Candidates::new(forwarding.whom.peer(), forwarding.each.unwrap_or(usize::MAX));
        let candidates = Arc::new(candidates);
        let mut of_each = Vec::new();
        for (place, listener) in listeners.into_iter().enumerate() {
            let whose = (Arc::clone(&candidates), forwarding.each.map(|_| place));
            let forward = Forward::new(
                forwarding.clone(),
                whose,
                &node,
                context.reporter.clone(),
                closing.clone(),
            );
            let forward = Arc::new(forward);
            serving.spawn(forward.clone().serve(listener));
            of_each.push(forward);
        }
        forwards.extend(of_each.iter().cloned());
        #[cfg(feature = "kad")]
        start_following(forwarding, candidates, of_each, &node, &context.reporter);
    }
    let endpoint = node.endpoint.clone();
    node.board.set(Doing { exposed: exposed.clone(), forwards, endpoint });
    // The files may have changed since the gates were made.
    if reloads.has_changed().unwrap_or(false) {
        node.reloader.hang_up().await;
    }
    stop::told().await;
    stop::drain(async {
        if timeout(GRACE, all(&mut serving)).await.is_err() {
            close.send_replace(true);
            all(&mut serving).await;
        }
        // Not before: what a ticket opened may end by itself.
        sharing.end().await;
        drop(exposed);
        node.shutdown().await;
    })
    .await;
    Ok(())
}

/// Finds whom a forward leads to, if that is not settled, until the process is told to stop.
#[cfg(feature = "kad")]
fn start_following(
    forwarding: Forwarding,
    candidates: Arc<Candidates>,
    forwards: Vec<Arc<Forward>>,
    node: &Node,
    reporter: &Reporter,
) {
    let Forwarding { whom, service, addresses_file: file, .. } = forwarding;
    if whom.peer().is_some() {
        return;
    }
    let (endpoint, finder) = (node.endpoint.clone(), node.finder.clone());
    let reporter = reporter.clone();
    let following =
        follow::Following { forwards, candidates, service, endpoint, finder, reporter, file };
    tokio::spawn(async move {
        tokio::select! {
            () = following.run(whom) => {}
            () = stop::told() => {}
        }
    });
}

fn start_exposing(
    exposures: Vec<Exposure>,
    gates: Vec<Gate>,
    reporter: &Reporter,
    closing: &Closing,
) -> Vec<Arc<Exposed>> {
    let exposed = exposures.into_iter().zip(gates).map(|(exposure, gate)| {
        Arc::new(Exposed::new(exposure, gate, reporter.clone(), closing.clone()))
    });
    exposed.collect()
}

/// What is said once the node is usable.
fn announce(exposures: &[Exposure], node: &mut Node) {
    if exposures.is_empty() {
        return;
    }
    let peer = node.endpoint.peer_id();
    let mut lines = vec![format!("this node is {peer}")];
    if node.relays.is_empty() {
        lines.push(
            "no relay is named, so only hosts that reach its addresses find it; see --relay".to_owned(),
        );
    }
    lines.extend(exposures.iter().map(|exposure| exposure.invitation(peer, &node.ways())));
    node.say_when_usable(lines);
}

/// Prints what the other side is to run, where that was asked for.
fn share(exposures: &[Exposure], node: &Node, context: &Context) -> Sharing {
    let mut sharing = Sharing::new(Ledger::at(context.ledger.clone()));
    for share in exposures.iter().filter_map(|exposure| exposure.share.clone()) {
        let addrs = node.addresses();
        let mut relays = node.relays.clone();
        relays.truncate(TICKET_RELAYS_MAX);
        let routes = Routes { relays, addrs };
        sharing.add(share, routes, context.keypair.clone(), context.reporter.clone());
    }
    sharing
}

/// Relays in a printed ticket: it is to be short enough to be copied.
const TICKET_RELAYS_MAX: usize = 4;

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
