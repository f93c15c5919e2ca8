//! Finds everything out, at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Config, Event, RelayAddr,
    addr::{STUN_PORT, StunServer},
    error::{Family, ListenFailure, StartError},
    event::MappingProtocol,
    nat::NatKind,
    path::Transport,
    survey::{self, Hairpin, RouterAnswer},
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::control::proto::External;

use super::{
    findings::{
        DhtFinding, Findings, ListenFinding, Listens, NodeFinding, ProxyFinding, RelayFinding, Taken,
    },
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

/// STUN servers that are asked for a way back to ourselves.
const STUN_MAX: usize = 2;

/// Addresses to listen on that are tried.
const LISTEN_MAX: usize = 16;

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
    /// Where a node is to listen.
    pub(super) listen: Vec<Multiaddr>,
    /// Where the node that runs here does.
    pub(super) running: Vec<Multiaddr>,
    /// The part in a DHT of the node that runs here.
    pub(super) dht: Option<DhtFinding>,
    /// Where its operator says that it is reached.
    pub(super) external: Vec<External>,
    /// Whether the router may be asked.
    pub(super) router: bool,
    pub(super) identity: Option<std::path::PathBuf>,
}

/// Takes 10 s at most: each part has a deadline below that. None once `stop` is cancelled, when the router has taken back
/// what it was asked for.
pub(super) async fn gather(mut quest: Quest, stop: &CancellationToken) -> Option<Findings> {
    let (dht, external) = (quest.dht.take(), std::mem::take(&mut quest.external));
    let Quest { relays, unresolved, stun, means, listen, running, router, identity, .. } = &quest;
    let probes = relays.iter().take(RELAYS_MAX).map(|relay| relay_finding(relay, means));
    let parts = async {
        tokio::join!(
            futures::future::join_all(probes),
            names(relays),
            node(relays, stun, means),
            hairpin(relays, stun, means),
            proxy(means),
            listening(listen, running, means),
        )
    };
    let (parts, mapping) = tokio::join!(stop.run_until_cancelled(parts), mapping(*router, stop));
    let (relays, mut names, node, hairpin, proxy, listening) = parts?;
    names.extend(unresolved.iter().map(|(name, cause)| (name.clone(), Err(cause.clone()))));
    let (v4, v6) = (host::way_out_v4(), host::way_out_v6());
    Some(Findings {
        relays,
        names,
        v4: v4.map(|(ip, _)| ip),
        v6: v6.map(|(ip, _)| ip),
        node,
        hairpin,
        mapping,
        proxy,
        dht,
        external,
        listening,
        identities: host::identities(identity.as_deref()),
        state: host::state(identity.as_deref()),
        open_files: host::open_files(),
        mtu_v4: v4.and_then(|(_, mtu)| mtu),
        mtu_v6: v6.and_then(|(_, mtu)| mtu),
    })
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
                if expires.is_some() {
                    self.finding.clocks.insert(relay, 0);
                }
            }
            Event::ReservationFailed { relay, .. } => {
                if let Some(failed) = self.missing.get_mut(&relay) {
                    failed.get_or_insert(now);
                }
            }
            Event::ClockDiffers { relay, seconds } => {
                self.finding.clocks.insert(relay, seconds);
            }
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

/// Asks the servers that were named, and those at the usual port of the relays' hosts. The first that tells more than
/// nothing is believed.
async fn hairpin(relays: &[RelayAddr], stun: &[StunServer], means: &Means) -> Option<Hairpin> {
    let beside = relays.iter().filter_map(|relay| beside(relay.address()));
    let mut seen = BTreeSet::new();
    let servers = stun.iter().cloned().chain(beside).filter(|server| seen.insert(server.to_string()));
    let servers: Vec<StunServer> = servers.take(STUN_MAX).collect();
    let asked = servers.iter().map(|server| survey::hairpin(server, &means.ranges, &means.global));
    let mut answers: futures::stream::FuturesUnordered<_> = asked.collect();
    let mut found = None;
    while let Some(hairpin) = answers.next().await {
        found = Some(hairpin);
        if hairpin != Hairpin::Unknown {
            break;
        }
    }
    found
}

fn beside(relay: &Multiaddr) -> Option<StunServer> {
    let host = match relay.iter().next()? {
        Protocol::Ip4(ip) => SocketAddr::from((ip, STUN_PORT)).to_string(),
        _ => format!("{}:{STUN_PORT}", name_of(relay)?),
    };
    host.parse().ok()
}

async fn mapping(
    allowed: bool,
    stop: &CancellationToken,
) -> Option<Vec<(MappingProtocol, RouterAnswer)>> {
    if !allowed {
        return None;
    }
    let late = stop.child_token();
    let mut asked = std::pin::pin!(survey::port_mapping(late.clone()));
    match timeout(ROUTER, &mut asked).await {
        Ok(answers) => answers,
        Err(_) => {
            late.cancel();
            asked.await
        }
    }
}

/// Whether each address can be listened on: a node listens there for a moment.
async fn listening(listen: &[Multiaddr], running: &[Multiaddr], means: &Means) -> Vec<ListenFinding> {
    let each = listen.iter().take(LISTEN_MAX).map(|address| async move {
        let can = match running.iter().any(|taken| port(taken).is_some() && port(taken) == port(address))
        {
            true => Ok(Listens::Already),
            false => listens(address, means).await,
        };
        ListenFinding { address: address.clone(), can }
    });
    futures::future::join_all(each).await
}

async fn listens(address: &Multiaddr, means: &Means) -> Result<Listens, Taken> {
    match means.endpoint(Config { listen: vec![address.clone()], ..Config::default() }).await {
        Ok((endpoint, _)) => {
            let _ = timeout(END, endpoint.shutdown()).await;
            Ok(Listens::Free)
        }
        Err(StartError::Listen {
            cause: ListenFailure::InUse { protocol, port, occupant, .. }, ..
        }) => {
            let by = occupant.map_or_else(
                || "a program that may not be seen (`ss -lntup` as root shows it)".to_owned(),
                |occupant| occupant.to_string(),
            );
            Err(Taken::Port { found: format!("{protocol} port {port} is taken by {by}") })
        }
        Err(StartError::Listen { cause, .. }) => Err(Taken::Other { cause: cause.to_string() }),
        Err(error) => Err(Taken::Other { cause: error.to_string() }),
    }
}

/// Of which protocol, and its number; none where the system chooses one.
fn port(address: &Multiaddr) -> Option<(Transport, u16)> {
    port_of(address).filter(|port| *port != 0).map(|port| (transport_of(address), port))
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
