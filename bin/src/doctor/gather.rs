//! Finds everything out, at the same time.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use libp2p::PeerId;
use punchline_bridge::{
    Config, Event, RelayAddr,
    addr::{STUN_PORT, StunServer},
    error::Family,
    nat::NatKind,
    survey::{self, Hairpin},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    findings::{Findings, NodeFinding, ProxyFinding, RelayFinding},
    host,
    probe::{AGAIN, Means, look_up, name_of, port_of, probe, transport_of},
};

/// For a node to reserve at its relays and to learn what NAT it is behind: two rounds of questions of 1.5 s.
const NODE: Duration = Duration::from_secs(7);

/// After the relays have answered, for the kind of NAT.
const NAT: Duration = Duration::from_secs(4);

/// Between two looks at whether enough is known.
const LOOK: Duration = Duration::from_millis(100);

/// For a router to be asked by every protocol.
const ROUTER: Duration = Duration::from_secs(8);

/// For the proxy to take a connection, its name included.
const PROXY: Duration = Duration::from_secs(4);

/// For the node to take back what it has.
const END: Duration = Duration::from_millis(500);

/// STUN servers that are asked for a way back to ourselves, one after the other.
const STUN_MAX: usize = 2;

/// Addresses of relays that are tried.
pub(super) const RELAYS_MAX: usize = 16;

/// What to find out.
#[derive(Debug)]
pub(super) struct Quest {
    pub(super) relays: Vec<RelayAddr>,
    /// Names that stand for no relay, with the reason.
    pub(super) unresolved: Vec<(String, String)>,
    pub(super) stun: Vec<StunServer>,
    pub(super) means: Means,
    /// Whether the router may be asked.
    pub(super) router: bool,
    pub(super) identity: Option<std::path::PathBuf>,
}

/// Takes 10 s at most: each part has a deadline below that.
pub(super) async fn gather(quest: Quest) -> Findings {
    let Quest { relays, unresolved, stun, means, router, identity } = &quest;
    let probes = relays.iter().take(RELAYS_MAX).map(|relay| relay_finding(relay, means));
    let (relays, mut names, node, hairpin, mapping, proxy) = tokio::join!(
        futures::future::join_all(probes),
        names(relays),
        node(relays, stun, means),
        hairpin(relays, stun),
        mapping(*router),
        proxy(means),
    );
    names.extend(unresolved.iter().map(|(name, cause)| (name.clone(), Err(cause.clone()))));
    let (v4, v6) = (host::way_out_v4(), host::way_out_v6());
    Findings {
        relays,
        names,
        v4: v4.map(|(ip, _)| ip),
        v6: v6.map(|(ip, _)| ip),
        node,
        hairpin,
        mapping,
        proxy,
        identities: host::identities(identity.as_deref()),
        state: host::state(identity.as_deref()),
        open_files: host::open_files(),
        mtu_v4: v4.and_then(|(_, mtu)| mtu),
        mtu_v6: v6.and_then(|(_, mtu)| mtu),
    }
}

async fn relay_finding(relay: &RelayAddr, means: &Means) -> RelayFinding {
    let Ok(address) = relay.address().clone().with_p2p(relay.peer()) else {
        unreachable!("the address of a relay ends before its identity")
    };
    let probed = probe(&address, means, true).await;
    RelayFinding {
        relay: relay.peer(),
        transport: transport_of(&address),
        port: port_of(&address),
        proxied: means.proxied(&address),
        reached: probed.outcome,
        address,
    }
}

async fn names(relays: &[RelayAddr]) -> Vec<(String, Result<Vec<std::net::IpAddr>, String>)> {
    let mut names: Vec<String> = relays.iter().filter_map(|relay| name_of(relay.address())).collect();
    names.sort();
    names.dedup();
    names.truncate(RELAYS_MAX);
    let lookups = names.into_iter().map(|name| async move {
        let found = look_up(&name).await;
        (name, found)
    });
    futures::future::join_all(lookups).await
}

/// Runs a node that asks for places at the relays, until it knows what it is behind.
async fn node(relays: &[RelayAddr], stun: &[StunServer], means: &Means) -> NodeFinding {
    let config = Config { stun_servers: stun.to_vec(), ..Config::default() };
    let (endpoint, mut events) = match means.endpoint(config).await {
        Ok(started) => started,
        Err(error) => return NodeFinding { start: Some(error.to_string()), ..NodeFinding::default() },
    };
    endpoint.reserve_all(relays.to_vec()).await;
    let mut watch = Watch::new(relays, !stun.is_empty());
    let deadline = Instant::now() + NODE;
    while !watch.is_over(Instant::now()) {
        match timeout_at(deadline.min(Instant::now() + LOOK), events.next()).await {
            Ok(Some(event)) => watch.note(event, Instant::now()),
            Ok(None) => break,
            Err(_) if Instant::now() >= deadline => break,
            Err(_) => {}
        }
    }
    // What was said at the same moment.
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        watch.note(event, Instant::now());
    }
    let _ = timeout(END, endpoint.shutdown()).await;
    watch.finding
}

/// What is waited for, and what was heard.
struct Watch {
    finding: NodeFinding,
    /// Relays that hold no place for us, and since when it is known that they refuse or are not reached.
    missing: BTreeMap<PeerId, Option<Instant>>,
    /// Somebody is there who can tell what we are behind.
    observed: bool,
    /// When nothing more was to be heard from relays.
    settled: Option<Instant>,
}

impl Watch {
    fn new(relays: &[RelayAddr], observed: bool) -> Self {
        let missing = relays.iter().map(|relay| (relay.peer(), None)).collect();
        Self { finding: NodeFinding::default(), missing, observed, settled: None }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let given_up = |failed: &Option<Instant>| failed.is_some_and(|failed| now >= failed + AGAIN);
        if !self.missing.values().all(given_up) {
            return false;
        }
        let settled = *self.settled.get_or_insert(now);
        let NatKind { mapping, filtering } = self.finding.nat_v4;
        !self.observed || (mapping.is_some() && filtering.is_some()) || now >= settled + NAT
    }

    fn note(&mut self, event: Event, now: Instant) {
        match event {
            Event::ReservationHeld { relay, expires, .. } => {
                self.missing.remove(&relay);
                self.observed = true;
                self.finding.clock_checked |= expires.is_some();
            }
            Event::ReservationFailed { relay, .. } => {
                if let Some(failed) = self.missing.get_mut(&relay) {
                    failed.get_or_insert(now);
                }
            }
            Event::ClockDiffers { seconds, .. } => self.finding.clock_ahead = Some(seconds),
            Event::NatFound { family, mapping, filtering, .. } => {
                let kind = NatKind { mapping, filtering };
                match family {
                    Family::V4 => self.finding.nat_v4 = kind,
                    Family::V6 => self.finding.nat_v6 = kind,
                }
            }
            _ => {}
        }
    }
}

/// Asks the servers that were named, and those at the usual port of the relays' hosts.
async fn hairpin(relays: &[RelayAddr], stun: &[StunServer]) -> Option<Hairpin> {
    let beside = relays.iter().filter_map(|relay| beside(relay.address()));
    let mut servers: Vec<StunServer> = stun.iter().cloned().chain(beside).collect();
    servers.dedup();
    let mut found = None;
    for server in servers.iter().take(STUN_MAX) {
        let hairpin = survey::hairpin(server).await;
        found = Some(hairpin);
        if hairpin != Hairpin::Unknown {
            break;
        }
    }
    found
}

fn beside(relay: &libp2p::Multiaddr) -> Option<StunServer> {
    use libp2p::multiaddr::Protocol;
    let host = match relay.iter().next()? {
        Protocol::Ip4(ip) => SocketAddr::from((ip, STUN_PORT)).to_string(),
        _ => format!("{}:{STUN_PORT}", name_of(relay)?),
    };
    host.parse().ok()
}

async fn mapping(
    allowed: bool,
) -> Option<Vec<(punchline_bridge::event::MappingProtocol, survey::RouterAnswer)>> {
    match allowed {
        true => timeout(ROUTER, survey::port_mapping()).await.ok().flatten(),
        false => None,
    }
}

async fn proxy(means: &Means) -> Option<ProxyFinding> {
    let proxy = means.proxy.as_ref()?;
    let (host, port) = proxy.place();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let answers = match timeout(PROXY, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(cause.to_string()),
        Err(_) => Err(format!("no answer within {} s", PROXY.as_secs())),
    };
    Some(ProxyFinding { proxy: proxy.to_string(), answers })
}
