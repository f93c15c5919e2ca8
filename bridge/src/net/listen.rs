//! Listening: where, and knowing that it came about.

use std::{net::Ipv4Addr, time::Duration};

use futures::{FutureExt, StreamExt};
use libp2p::{Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::SwarmEvent};

use crate::error::StartError;

/// For the system to report the addresses of a listener. It takes milliseconds; 5 s means it will not.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// Every interface, IPv4 and IPv6, TCP and QUIC, one free port each.
fn default_listen() -> Vec<Multiaddr> {
    let tcp = Protocol::Tcp(0);
    let v4 = Multiaddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = Multiaddr::from(std::net::Ipv6Addr::UNSPECIFIED);
    let quic = |ip: &Multiaddr| ip.clone().with(Protocol::Udp(0)).with(Protocol::QuicV1);
    vec![v4.clone().with(tcp.clone()), quic(&v4), v6.clone().with(tcp), quic(&v6)]
}

/// Listens and waits until the system has told every address, since a dial made before it would leave
/// from a port that nobody listens on. Given addresses must all work; of the default ones, one.
pub(crate) async fn listen<B>(
    swarm: &mut Swarm<B>,
    addresses: &[Multiaddr],
) -> Result<Vec<Multiaddr>, StartError>
where
    B: libp2p::swarm::NetworkBehaviour,
{
    let given = !addresses.is_empty();
    let wanted = if given { addresses.to_vec() } else { default_listen() };
    let mut waiting = Vec::new();
    for address in wanted {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => waiting.push((listener, address)),
            Err(error) if given => {
                let cause = std::io::Error::other(error);
                return Err(StartError::Listen { address, cause });
            }
            Err(error) => tracing::debug!(%address, %error, "cannot listen"),
        }
    }
    if waiting.is_empty() {
        return Err(StartError::NoListener);
    }
    let found = tokio::time::timeout(LISTEN_DEADLINE, reported(swarm, waiting, given)).await;
    found.map_err(|_| StartError::ListenDeadline { deadline: LISTEN_DEADLINE })?
}

async fn reported<B>(
    swarm: &mut Swarm<B>,
    mut waiting: Vec<(ListenerId, Multiaddr)>,
    given: bool,
) -> Result<Vec<Multiaddr>, StartError>
where
    B: libp2p::swarm::NetworkBehaviour,
{
    let mut found = Vec::new();
    loop {
        // When every listener has reported, take what else is known already, and no more.
        let event = if waiting.is_empty() {
            match swarm.select_next_some().now_or_never() {
                Some(event) => event,
                None => return Ok(found),
            }
        } else {
            swarm.select_next_some().await
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.retain(|(listener, _)| *listener != listener_id);
                found.push(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(cause), .. } => {
                let at = waiting.iter().position(|(listener, _)| *listener == listener_id);
                let Some((_, address)) = at.map(|at| waiting.remove(at)) else { continue };
                if given {
                    return Err(StartError::Listen { address, cause });
                }
            }
            _ => {}
        }
    }
}
