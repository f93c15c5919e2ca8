//! How QUIC is spoken.

use std::{net::IpAddr, sync::Arc};

use futures_rustls::rustls;
use quinn_proto::{
    ClientConfig, EndpointConfig, NoneTokenStore, ServerConfig, TransportConfig, ValidationTokenConfig,
    VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use tokio::sync::Semaphore;

use super::{Error, congestion::Tolerant, mtu};
use crate::{
    engine::QUIET_PING_INTERVAL,
    error::StartError,
    net::{
        secure::{Secure, Verifier},
        watched::Watched,
    },
};

/// Where nobody has said anything for so long, in milliseconds, the connection is over. Two pings pass in it on a quiet one, so
/// that there are no keep-alives besides; stock peers, whose own timeout is shorter, see to that themselves. A peer that does
/// not answer is given up much earlier ([`super::silence`]).
const IDLE_MS: u32 = 30_000;
const _: () = assert!(2 * QUIET_PING_INTERVAL.as_millis() < IDLE_MS as u128);

/// What a peer may send over one connection before it is read, and on one substream, so that one which
/// is not read leaves room for others. 8 and 6 MiB: fill 480 Mbit/s × 100 ms; more times the number of
/// connections is what an attacker can make us hold.
const CONNECTION_BYTES: u32 = 8 << 20;
const SUBSTREAM_BYTES: u32 = 6 << 20;

/// Substreams that a peer may have open at once on one connection, as with libp2p's transport.
pub(super) const SUBSTREAMS_MAX: u32 = 256;

/// So many at first, and twice as many each time that half of them are open: quinn keeps places for all of them, which are 85 bytes
/// each. With a few of ours that is what a table of 64 places has room for.
const SUBSTREAMS_AT_FIRST: u32 = 48;

/// The largest packet that is taken: what UDP can carry.
const RECEIVED_MAX: u16 = 65_527;

/// Connections that have begun and that the swarm has not taken yet, of one socket. It takes all there are whenever it runs.
const INCOMING_MAX: usize = 1024;

/// Bytes beyond the first packet of each of them, and of all: a handshake's first message is two packets.
const INCOMING_BYTES_EACH: u64 = 16 << 10;
const INCOMING_BYTES: u64 = 4 << 20;

/// Handshakes under way with who has not shown that it receives what is sent to its address. Whoever comes when there are
/// as many is told to come again with a token, which takes a round trip; so nobody fills this node with handshakes in the
/// names of others.
pub(super) const UNPROVED_MAX: usize = 32;

/// What all sockets of a node share.
pub(crate) struct Config {
    secure: Secure,
    /// With keys for first packets; each connection has a configuration of TLS for itself.
    server: ServerConfig,
    endpoint: EndpointConfig,
    pub(super) watched: Watched,
    /// Permits of handshakes with who has not proved its address.
    pub(super) unproved: Arc<Semaphore>,
}

impl Config {
    /// Peers that are `watched` are asked for a word more often.
    pub(crate) fn new(secure: &Secure, watched: Watched) -> Result<Arc<Self>, StartError> {
        Self::with(secure, watched)
            .map(Arc::new)
            .map_err(|error| StartError::Transport { transport: "QUIC", cause: error.into() })
    }

    fn with(secure: &Secure, watched: Watched) -> Result<Self, Error> {
        let (tls, _) = secure.quic_server().map_err(Error::Tls)?;
        let mut server = ServerConfig::with_crypto(Arc::new(of_server(tls)?));
        server
            // libp2p knows a connection by its addresses.
            .migration(false)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_EACH)
            .incoming_buffer_size_total(INCOMING_BYTES)
            .validation_token_config(no_tokens());
        let mut endpoint = EndpointConfig::default();
        endpoint.supported_versions(vec![1]);
        // Any is one that a socket can receive.
        endpoint.max_udp_payload_size(RECEIVED_MAX)?;
        let unproved = Arc::new(Semaphore::new(UNPROVED_MAX));
        Ok(Self { secure: secure.clone(), server, endpoint, watched, unproved })
    }

    pub(super) fn endpoint(&self) -> EndpointConfig {
        self.endpoint.clone()
    }

    /// To listen with.
    pub(super) fn listening(&self) -> ServerConfig {
        self.server.clone()
    }

    /// For one connection with `remote`, and who is at its other end.
    pub(super) fn server(&self, remote: IpAddr) -> Result<(Arc<ServerConfig>, Arc<Verifier>), Error> {
        let (tls, verifier) = self.secure.quic_server().map_err(Error::Tls)?;
        let mut server = self.server.clone();
        server.crypto = Arc::new(of_server(tls)?);
        server.transport_config(Arc::new(transport(remote)));
        Ok((Arc::new(server), verifier))
    }

    /// Likewise, for one that is dialled.
    pub(super) fn client(&self, remote: IpAddr) -> Result<(ClientConfig, Arc<Verifier>), Error> {
        let (tls, verifier) = self.secure.quic_client().map_err(Error::Tls)?;
        let tls = QuicClientConfig::try_from(tls).map_err(no_suite)?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(Arc::new(transport(remote)));
        client.token_store(Arc::new(NoneTokenStore));
        Ok((client, verifier))
    }
}

fn transport(remote: IpAddr) -> TransportConfig {
    let largest = mtu::largest_packet(remote);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(SUBSTREAMS_AT_FIRST.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .allow_spin(false)
        .congestion_controller_factory(Arc::new(Tolerant::new(largest)))
        .mtu_discovery_config(Some(mtu::discovery(remote, largest)))
        .stream_receive_window(SUBSTREAM_BYTES.into())
        .receive_window(CONNECTION_BYTES.into());
    transport
}

/// Each connection proves anew where it comes from, if at all.
fn no_tokens() -> ValidationTokenConfig {
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    tokens
}

fn of_server(tls: Arc<rustls::ServerConfig>) -> Result<QuicServerConfig, Error> {
    QuicServerConfig::try_from(tls).map_err(no_suite)
}

/// First packets are protected by AES-128-GCM, whichever cipher comes then.
fn no_suite(_: NoInitialCipherSuite) -> Error {
    Error::Tls(rustls::Error::General("no AES-128-GCM for first packets".into()))
}
