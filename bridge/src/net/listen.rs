//! Listening: where, and knowing that it came about. `port` sees to it that nobody else listens there.

mod port;

use std::{net::Ipv4Addr, time::Duration};

use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use tokio::time::{Instant, timeout_at};

use self::port::Place;
pub(crate) use self::port::own_udp_port;
use super::{cause::root_cause, local};
use crate::error::{ListenFailure, StartError};

/// For the system to report the addresses of a listener. It takes milliseconds; 5 s means it will not.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// For the other listeners, once one has reported, where the system does not say whether they have any
/// address: all are told of the same interfaces at about the same time.
const SETTLING: Duration = Duration::from_millis(500);

/// What came of listening.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Where the node listens, with the real ports.
    pub(crate) addresses: Vec<Multiaddr>,
    /// What was passed over, and why.
    pub(crate) failed: Vec<(Multiaddr, ListenFailure)>,
}

/// A listener that has not reported an address yet.
struct Waiting {
    listener: ListenerId,
    address: Multiaddr,
    /// Whether the system says that it has one.
    sure: bool,
}

/// Every interface, IPv4 and IPv6, TCP and QUIC, one free port each.
fn default_listen() -> Vec<Multiaddr> {
    let tcp = Protocol::Tcp(0);
    let v4 = Multiaddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = Multiaddr::from(std::net::Ipv6Addr::UNSPECIFIED);
    let quic = |ip: &Multiaddr| ip.clone().with(Protocol::Udp(0)).with(Protocol::QuicV1);
    vec![v4.clone().with(tcp.clone()), quic(&v4), v6.clone().with(tcp), quic(&v6)]
}

/// Listens and waits until the system has told the addresses of every listener, since a dial made before
/// it would leave from a port that nobody listens on.
///
/// Given addresses must all work, except that "every interface" of a family that this host does not have
/// is passed over. Of the default ones, one is enough. What is passed over is part of the answer.
pub(crate) async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    addresses: &[Multiaddr],
) -> Result<Listening, StartError> {
    let given = !addresses.is_empty();
    let wanted = if given { addresses.to_vec() } else { default_listen() };
    let (mut waiting, mut failed) = (Vec::new(), Vec::new());
    for address in wanted {
        let begun = begin(swarm, &address).await;
        match begun.map(|listener| (listener, will_report(&address))) {
            // It listens, and will report an address that comes later.
            Ok((_, Err(none))) => failed.push((address, none)),
            Ok((listener, Ok(sure))) => waiting.push(Waiting { listener, address, sure }),
            Err(cause) if given && !may_be_passed_over(&address, &cause) => {
                return Err(StartError::Listen { address, cause });
            }
            Err(cause) => failed.push((address, cause)),
        }
    }
    let (addresses, silent) = reported(swarm, waiting).await;
    let broken = |(_, cause): &&(_, _)| matches!(cause, ListenFailure::Transport { .. });
    if given && let Some((address, cause)) = silent.iter().find(broken) {
        return Err(StartError::Listen { address: address.clone(), cause: cause.clone() });
    }
    failed.extend(silent);
    match addresses.is_empty() {
        true => Err(StartError::NoListener { failed }),
        false => Ok(Listening { addresses, failed }),
    }
}

async fn begin<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    address: &Multiaddr,
) -> Result<ListenerId, ListenFailure> {
    let place = Place::of(address).ok_or(ListenFailure::Unsupported)?;
    let _turn = place.claim().await?;
    // libp2p binds and listens at once, and so within our turn.
    swarm
        .listen_on(address.clone())
        .map_err(|error| ListenFailure::Transport { cause: root_cause(&error) })
}

/// Whether the listener is sure to report an address; an error if it is sure not to.
fn will_report(address: &Multiaddr) -> Result<bool, ListenFailure> {
    match Place::of(address).filter(Place::is_wildcard).map(|place| place.family()) {
        None => Ok(true),
        Some(family) => match local::has(family) {
            Some(true) => Ok(true),
            Some(false) => Err(ListenFailure::NoAddress { family }),
            None => Ok(false),
        },
    }
}

fn may_be_passed_over(address: &Multiaddr, cause: &ListenFailure) -> bool {
    let wildcard = Place::of(address).is_some_and(|place| place.is_wildcard());
    wildcard && matches!(cause, ListenFailure::NoFamily { .. })
}

/// Waits for each listener's first address. All addresses that were reported, and what became of the
/// listeners that reported none.
async fn reported<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    mut waiting: Vec<Waiting>,
) -> (Vec<Multiaddr>, Vec<(Multiaddr, ListenFailure)>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let (start, mut last_found) = (Instant::now(), Instant::now());
    while !waiting.is_empty() {
        let settling = !found.is_empty() && waiting.iter().all(|waiting| !waiting.sure);
        let until = if settling { last_found + SETTLING } else { start + LISTEN_DEADLINE };
        let Ok(event) = timeout_at(until, swarm.select_next_some()).await else {
            let deadline = until - start;
            let silent = |waiting: Waiting| (waiting.address, ListenFailure::Unreported { deadline });
            failed.extend(waiting.into_iter().map(silent));
            return (found, failed);
        };
        let (listener, cause) = match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                found.push(address);
                last_found = Instant::now();
                waiting.retain(|waiting| waiting.listener != listener_id);
                continue;
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(cause), .. } => (listener_id, cause),
            SwarmEvent::ListenerError { listener_id, error } => (listener_id, error),
            _ => continue,
        };
        let cause = ListenFailure::Transport { cause: root_cause(&cause) };
        let of_listener = waiting.extract_if(.., |waiting| waiting.listener == listener);
        failed.extend(of_listener.map(|waiting| (waiting.address, cause.clone())));
    }
    // When every listener has reported, take what else is known already, and no more.
    while let Some(event) = swarm.select_next_some().now_or_never() {
        if let SwarmEvent::NewListenAddr { address, .. } = event {
            found.push(address);
        }
    }
    (found, failed)
}
