//! Which protocols our router forwards ports by: each is asked once, and what it grants is taken back at once.

use std::{
    fmt,
    net::{SocketAddr, UdpSocket},
    num::NonZeroU16,
};

use super::router::{Failed, Mapping, Port, Way};
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

/// Asks the router that the default route of IPv4 leads to, by PCP, NAT-PMP and UPnP in this order, since a router that
/// speaks several has one table of ports for all. None if there is no such route. A router without UPnP makes it take
/// some seconds; what was granted when the future is dropped ends after an hour.
pub async fn port_mapping() -> Option<Vec<(MappingProtocol, RouterAnswer)>> {
    let way = tokio::task::spawn_blocking(|| Way::find(Family::V4)).await.ok().flatten()?;
    // A port that nobody else listens on meanwhile; what comes to it is read by nobody.
    let socket = UdpSocket::bind((way.from, 0)).ok()?;
    let port = NonZeroU16::new(socket.local_addr().ok()?.port())?;
    let port = Port { way, transport: Transport::Quic, port };
    let mut answers = Vec::new();
    for by in [MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp] {
        let answer = match Mapping::ask(port, by).await {
            Ok((mapping, granted)) => {
                if let Err(cause) = mapping.release().await {
                    tracing::debug!(?by, %cause, "the router did not take a mapped port back");
                }
                RouterAnswer::Forwards(granted.external)
            }
            Err(failed) if failed.is_silence() => RouterAnswer::Silent,
            Err(failed) => RouterAnswer::Refuses { cause: failed.to_string() },
        };
        answers.push((by, answer));
    }
    Some(answers)
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
