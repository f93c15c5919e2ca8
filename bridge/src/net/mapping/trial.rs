//! Which protocols our router forwards ports by: each is asked once, and what is granted is given back at once.

use std::{
    fmt,
    net::{SocketAddr, UdpSocket},
    num::NonZeroU16,
};

use tokio_util::sync::CancellationToken;

use super::{
    ended,
    router::{Failed, Mapping, Port, Way},
};
use crate::{error::Family, event::MappingProtocol, path::Transport};

/// What a router answers to a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterAnswer {
    /// It forwards, from this address.
    Forwards(SocketAddr),
    /// It speaks the protocol, and does not forward.
    Refuses {
        /// What it said.
        cause: String,
    },
    /// It does not speak it.
    Silent,
}

/// Asks the router that the default route of IPv4 leads to by PCP, NAT-PMP and UPnP, all at once and for a port each.
/// None if there is no such route. A router without UPnP makes it take some seconds.
///
/// # Cancellation
/// Once `stop` is cancelled, or the future dropped, the router is asked to take back what it granted, and half a second is
/// waited for what it grants in the last moment. The future ends when that is done; dropped, tasks of its own do it.
pub async fn port_mapping(stop: CancellationToken) -> Option<Vec<(MappingProtocol, RouterAnswer)>> {
    let way = tokio::task::spawn_blocking(|| Way::find(Family::V4)).await.ok().flatten()?;
    let stop = stop.child_token();
    let _stops_at_drop = stop.clone().drop_guard();
    let each = [MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp].map(|by| {
        let asked = tokio::spawn(ask(way, by, stop.clone()));
        async move { Some((by, asked.await.ok()?)) }
    });
    futures::future::join_all(each).await.into_iter().collect()
}

async fn ask(way: Way, by: MappingProtocol, stop: CancellationToken) -> RouterAnswer {
    // A port that nobody else listens on meanwhile; what comes to it is read by nobody.
    let socket = UdpSocket::bind((way.from, 0));
    let port = socket.as_ref().ok().and_then(|socket| socket.local_addr().ok());
    let Some(port) = port.and_then(|at| NonZeroU16::new(at.port())) else { return RouterAnswer::Silent };
    let port = Port { way, transport: Transport::Quic, port };
    let asked = tokio::select! {
        asked = Mapping::ask(port, by) => asked,
        () = ended(&stop) => Err(Failed::Silent),
    };
    match asked {
        Ok((mapping, granted)) => {
            if let Err(cause) = mapping.release().await {
                tracing::debug!(?by, %cause, "the router did not take a mapped port back");
            }
            RouterAnswer::Forwards(granted.external)
        }
        Err(failed) if failed.is_silence() => RouterAnswer::Silent,
        Err(failed) => RouterAnswer::Refuses { cause: failed.to_string() },
    }
}

impl Failed {
    /// Nobody there speaks the protocol, as far as one can tell.
    fn is_silence(&self) -> bool {
        use crab_nat::{natpmp, pcp};
        match self {
            Self::Pcp(failure) => matches!(
                failure,
                pcp::Failure::Timeout | pcp::Failure::Socket(_) | pcp::Failure::UnsupportedVersion(_)
            ),
            Self::NatPmp(failure) => matches!(
                failure,
                natpmp::Failure::Timeout
                    | natpmp::Failure::Socket(_)
                    | natpmp::Failure::UnsupportedVersion(_)
            ),
            Self::Search(_) | Self::Socket(_) | Self::Silent | Self::Late(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}
