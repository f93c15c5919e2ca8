//! `punchline relay`, and what a relay takes wherever it runs.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::Args;
use ipnet::IpNet;

use super::{ControlSocket, ExternalAddr, Many, Metrics, Nets, Page, RelayListenAddr, Rights, StunAddr};

/// `punchline relay`.
#[derive(Args, Debug)]
pub struct Relay {
    /// Listen here. Default: every interface, IPv4 and IPv6, TCP and QUIC, one free port each. With
    /// `/ip4/0.0.0.0/tcp/443/tls/ws` it is found where nothing but HTTPS gets out; behind a proxy that does TLS,
    /// `/tcp/<port>/ws` is enough.
    #[arg(long, env = "PUNCHLINE_LISTEN", value_name = "ADDR")]
    pub listen: Vec<Many<RelayListenAddr>>,
    /// The certificate to show on /tls/ws, and its chain, in PEM. Default: one that is made, and kept beside the
    /// identity; nodes take any.
    #[arg(long, env = "PUNCHLINE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM.
    #[arg(long, env = "PUNCHLINE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Where peers reach this relay from outside; `auto`: wherever the first ones say they see it.
    /// Default: the addresses given with --listen that name an IP address.
    #[arg(long, env = "PUNCHLINE_EXTERNAL", value_name = "ADDR|auto")]
    pub external: Vec<Many<ExternalAddr>>,
    /// Answer STUN over UDP here and at the next port, so that nodes learn what kind of NAT they are behind; `off`:
    /// nowhere. Default: on every interface, at 3478 and 3479.
    #[arg(long, env = "PUNCHLINE_STUN_LISTEN", value_name = "IP:PORT|off")]
    pub stun_listen: Vec<Many<StunAddr>>,
    /// Answer `punchline status` on this Unix socket, which is its owner's alone; `off`: nowhere. Default: beside the
    /// identity, with `.sock` after its name.
    #[arg(long, env = "PUNCHLINE_CONTROL", value_name = "PATH|off")]
    pub control: Option<ControlSocket>,
    /// Treat these ranges as public when --external is auto.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Whom it speaks with, by address.
    #[command(flatten)]
    pub nets: Nets,
    /// Where it tells numbers about itself.
    #[command(flatten)]
    pub metrics: Metrics,
    /// Where it shows itself to people.
    #[command(flatten)]
    pub page: Page,
    /// As whom it may run.
    #[command(flatten)]
    pub rights: Rights,
    /// How much it does for whom.
    #[command(flatten)]
    pub limits: RelayLimits,
}

/// How much a relay does for whom.
#[derive(Args, Debug)]
pub struct RelayLimits {
    /// Most reservations at once.
    #[arg(long, env = "PUNCHLINE_MAX_RESERVATIONS", default_value = "1024")]
    pub max_reservations: NonZeroUsize,
    /// Most reservations of one peer.
    #[arg(long, env = "PUNCHLINE_MAX_RESERVATIONS_PER_PEER", default_value = "4")]
    pub max_reservations_per_peer: NonZeroUsize,
    /// Most reservations from one IPv4 address or IPv6 /64. Default: a quarter of all, but at least 16.
    #[arg(long, env = "PUNCHLINE_MAX_RESERVATIONS_PER_IP", value_name = "N")]
    pub max_reservations_per_ip: Option<NonZeroUsize>,
    /// How long a reservation lasts unless renewed, in seconds.
    #[arg(long, env = "PUNCHLINE_RESERVATION_SECONDS", default_value_t = 3600)]
    pub reservation_seconds: u64,
    /// Most circuits at once.
    #[arg(long, env = "PUNCHLINE_MAX_CIRCUITS", default_value = "1024")]
    pub max_circuits: NonZeroUsize,
    /// Most circuits of one peer.
    #[arg(long, env = "PUNCHLINE_MAX_CIRCUITS_PER_PEER", default_value = "16")]
    pub max_circuits_per_peer: NonZeroUsize,
    /// Most circuits asked for from one IPv4 address or IPv6 /64. Default: a quarter of all, but at least 64.
    #[arg(long, env = "PUNCHLINE_MAX_CIRCUITS_PER_IP", value_name = "N")]
    pub max_circuits_per_ip: Option<NonZeroUsize>,
    /// Bytes that one circuit may forward, both directions added; 0 is no limit.
    #[arg(long, env = "PUNCHLINE_CIRCUIT_BYTES", default_value_t = 1 << 30)]
    pub circuit_bytes: u64,
    /// How long one circuit may live, in seconds.
    #[arg(long, env = "PUNCHLINE_CIRCUIT_SECONDS", default_value_t = 7200)]
    pub circuit_seconds: u64,
    /// Requests of one peer in an hour, for reservations and circuits each; refused ones do not count.
    #[arg(long, env = "PUNCHLINE_REQUESTS_PER_PEER", default_value = "120")]
    pub requests_per_peer: NonZeroU32,
    /// Requests from one IP address in an hour, for reservations and circuits each.
    #[arg(long, env = "PUNCHLINE_REQUESTS_PER_IP", default_value = "3600")]
    pub requests_per_ip: NonZeroU32,
    /// Most connections at once.
    #[arg(long, env = "PUNCHLINE_MAX_CONNECTIONS", default_value = "4096")]
    pub max_connections: NonZeroU32,
    /// Most connections from one IPv4 address or IPv6 /64. Default: a quarter of all, but at least 64.
    #[arg(long, env = "PUNCHLINE_MAX_CONNECTIONS_PER_IP", value_name = "N")]
    pub max_connections_per_ip: Option<NonZeroUsize>,
}
