//! Two ends agree on a protocol and take it. libp2p does the same for itself, but does not let who is dialled decide what is
//! proposed.

use std::{error::Error, io};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    Endpoint,
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
};
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};

/// Does `upgrade` with whoever is at the other end of `socket`. A dialler that proposes one protocol does not wait for the
/// answer.
///
/// # Errors
/// If they have no protocol in common, or the upgrade fails. What failed is behind the I/O error.
pub(super) async fn agree<C, U, O, I, D>(socket: C, upgrade: U, role: Endpoint) -> io::Result<O>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: InboundConnectionUpgrade<Negotiated<C>, Output = O, Error = I>,
    U: OutboundConnectionUpgrade<Negotiated<C>, Output = O, Error = D>,
    I: Into<Box<dyn Error + Send + Sync>>,
    D: Into<Box<dyn Error + Send + Sync>>,
{
    let names = upgrade.protocol_info();
    match role {
        Endpoint::Dialer => {
            let chosen = dialer_select_proto(socket, names, Version::V1Lazy).await;
            let (name, socket) = chosen.map_err(io::Error::other)?;
            upgrade.upgrade_outbound(socket, name).await.map_err(io::Error::other)
        }
        Endpoint::Listener => {
            let (name, socket) = listener_select_proto(socket, names).await.map_err(io::Error::other)?;
            upgrade.upgrade_inbound(socket, name).await.map_err(io::Error::other)
        }
    }
}
