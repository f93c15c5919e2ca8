//! Meets tonic: a stream is a connection that HTTP/2 runs over.
//!
//! [`Connector`] is what a tonic `Endpoint` connects with; an [`Incoming`](crate::Incoming) is what a
//! tonic `Server` serves; [`client`] and [`server`] give both ends the same HTTP/2 settings, without
//! which throughput suffers over long paths and large frames are refused. [`Faults`] gives a channel's
//! failures the codes that gRPC has for them.
//!
//! ```no_run
//! # async fn run(node: punchline_bridge::Endpoint, peer: libp2p::PeerId) -> Result<(), Box<dyn std::error::Error>> {
//! use punchline_bridge::grpc::{self, Connector};
//!
//! let connector = Connector::new(node.clone(), peer, "grpc".parse()?);
//! let channel = grpc::client(&peer).connect_with_connector(connector).await?;
//! # Ok(()) }
//! ```

mod connect_info;
mod connector;
mod faults;

use std::time::Duration;

use libp2p::PeerId;
use tonic::transport::{Endpoint, Server};

pub use self::{connect_info::ConnectInfo, connector::Connector, faults::Faults};

/// Largest HTTP/2 frame: 1 MiB. Larger ones would let one message hold up the others; the usual
/// 16 KiB costs a header and a copy each.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Bytes that one HTTP/2 stream may have unread: 8 MiB, about 640 Mbit/s at 100 ms.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes that all HTTP/2 streams of a connection may have unread together: 16 MiB.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often an HTTP/2 ping asks whether the program at the other end answers: 2 min. Whether the peer is
/// there, and that the way to it stays open, is looked after below: more often would only keep
/// connections that are quiet from being left alone.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(120);
/// How long an HTTP/2 ping may stay unanswered: 20 s, long enough for a full window on a slow path.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A tonic endpoint for `peer` with the settings above. The URI is only a name: connect with a
/// [`Connector`].
pub fn client(peer: &PeerId) -> Endpoint {
    let origin = format!("http://{peer}");
    // A peer id is base58, so the host part is always valid; a constant keeps this free of panics.
    let endpoint =
        Endpoint::from_shared(origin).unwrap_or_else(|_| Endpoint::from_static("http://peer.invalid"));
    endpoint
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// A tonic server with the same settings as [`client`].
pub fn server() -> Server {
    Server::builder()
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}
