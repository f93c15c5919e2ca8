//! Every setting of a node: its effect, its default, its price.

use std::{path::PathBuf, time::Duration};

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{
    addr::{GlobalScope, Ranges, StunServer},
    path::Transport,
    proxy::Proxy,
};

/// Addresses that an operator may state: one for each of two transports and families. They are half of what a peer is offered,
/// so that what relays see of us is offered as well: it leads to us where these do not.
pub const EXTERNAL_MAX: usize = 4;

/// How a node listens, chooses and waits. The defaults are fit for production.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to accept connections, and the source of outbound ones: hole punching works only from a
    /// port that is listened on. One address per transport and family; more make the source port of
    /// TCP a coin toss. Empty: every interface, IPv4 and IPv6, TCP and QUIC, one free port each.
    pub listen: Vec<Multiaddr>,
    /// Where others reach this node by the operator's word, which is not doubted: public addresses and ports that a router
    /// forwards to those of `listen`. Peers are told at once, relays test them, and where nobody answers,
    /// [`Event::ExternalUnanswered`](crate::Event::ExternalUnanswered) says so. Of more than [`EXTERNAL_MAX`] the first ones;
    /// what names no IP address and port, over TCP or QUIC, is left out. Default: none.
    pub external: Vec<Multiaddr>,
    /// Which observed addresses may be offered to peers. Default: globally routable ones only.
    pub global: GlobalScope,
    /// STUN servers to ask what kind of NAT this node is behind, besides those that relays run; of more than 8 the
    /// first 8. Asked at the start, when the addresses of this host change, and every hour. Default: none.
    pub stun_servers: Vec<StunServer>,
    /// Which ranges are dialled and answered; [`Endpoint::keep_to`](crate::Endpoint::keep_to) changes them. Default:
    /// all.
    pub ranges: Ranges,
    /// The order of preference among direct connections. Default: TCP, then QUIC, since bulk goes
    /// about twice as fast over TCP where both are clean. WebSockets lead to relays only.
    pub transports: [Transport; 2],
    /// When a relayed connection is to become direct. Default: at once.
    pub upgrades: Upgrades,
    /// Whether our router is asked to forward the ports that we listen on at private IPv4 addresses, by PCP, NAT-PMP
    /// or UPnP. Default: on. Then anybody can dial us through it, as they could without a router, and the session is
    /// direct where a hole punch would fail. Where no router answers, it is asked ever more rarely.
    pub port_mapping: PortMapping,
    /// What relays are used for. Default: to introduce peers, and to carry streams where there is no direct path.
    pub relay_mode: RelayMode,
    /// The HTTP proxy through which relays are reached whose addresses are WebSockets. Default: none. What has any other
    /// address is dialled without it, hole punches above all.
    #[serde(skip)]
    pub proxy: Option<Proxy>,
    /// How streams are carried: windows, acknowledgements, patience.
    #[serde(skip)]
    pub streams: crate::stream::machine::Config,
    /// What becomes of the node when the program drops its last [`Endpoint`](crate::Endpoint). Default: it
    /// shuts down.
    pub when_dropped: WhenDropped,
    /// The deadlines.
    pub deadlines: Deadlines,
    /// The bounds.
    pub limits: Limits,
    /// Where to write down what the node's decisions rest on, so that they can be made again from it: peer ids
    /// and addresses are in it, no payload. A file that exists is replaced; it ends after 16 MiB. Default: none.
    #[serde(skip)]
    pub journal: Option<PathBuf>,
}

/// When a node ends whose last handle was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenDropped {
    /// At once: streams that still live are reset at both ends.
    ShutDown,
    /// When its last stream has ended. Until then it moves and carries streams, and takes no new ones for
    /// services that nobody answers for any more.
    LastStreamEnds,
}

/// When hole punches may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgrades {
    /// As soon as a relayed connection is up.
    AtOnce,
    /// Neither begun nor answered until [`Endpoint::allow_upgrades`](crate::Endpoint::allow_upgrades) says so.
    WhenTold,
}

/// Whether our router is asked to forward ports to us, and to let everybody in at them over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortMapping {
    /// It is, and what it forwards is taken back when the node ends.
    On,
    /// It is left alone.
    Off,
}

/// What relays are used for. Each end goes by its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayMode {
    /// Nothing: no reservation is asked for and no circuit dialled. Peers are reached at known addresses alone.
    Off,
    /// To introduce peers: circuits carry what is said about a hole punch. Streams wait for a direct connection, new ones
    /// until the deadline of their open, those that lost their path for as long as their patience; those of peers that
    /// come through a relay are refused.
    Coordination,
    /// To carry streams as well, where there is no direct path.
    #[default]
    Fallback,
}

impl RelayMode {
    /// Whether streams may run through relays.
    pub(crate) fn carries_streams(self) -> bool {
        self == Self::Fallback
    }
}

/// How long to wait for what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Deadlines {
    /// From `open` to a stream or an error, everything included. 30 s: two relay dials, a circuit and
    /// a slow answer fit; a caller that wants less wraps `open` in its own timeout.
    pub open: Duration,
    /// For the peer's answer to a new stream on a live connection. 10 s, as libp2p's own upgrades.
    pub negotiate: Duration,
    /// For a relay to tell how it sees us, after which a circuit is dialled without knowing. 3 s: it
    /// comes within one round trip, and a circuit made before it cannot be punched.
    pub identify: Duration,
    /// For a relay to answer a request for a reservation. 10 s.
    pub reserve: Duration,
    /// An unused relayed connection is closed after this. 10 s: long enough for a hole punch and its
    /// retry, short enough to give the relay its circuit back.
    pub relayed_grace: Duration,
    /// An unused direct connection is closed after this. 60 s: another stream often follows, and the
    /// hole in the NAT took some making.
    pub direct_grace: Duration,
    /// First and longest wait before a lost reservation is asked for again; it doubles in between.
    /// 250 ms to 2 s: a restarted relay is found within 5 s, at one small packet per wait. One that was not heard
    /// for longer than 48 s is dialled after a random part of a twenty-fourth of that time, 1 s to 5 min.
    pub reserve_backoff: (Duration, Duration),
    /// First and longest wait before a peer that a connection is kept to is reached for again; it
    /// doubles in between. 500 ms to 5 min: a peer that was restarted is found at once, one that is gone for
    /// hours costs a dozen attempts an hour. An open does not wait for it.
    pub hold_backoff: (Duration, Duration),
    /// Between two attempts for any of the missing peers that a connection is kept to, on average, once each has
    /// been looked for a few times. 30 s: what one peer may ask of a relay in an hour is enough for all.
    pub hold_pace: Duration,
    /// A stream whose peer's system closed the connection, or its link to a relay of ours as that relay says, and
    /// that nobody brought a path since, is given up after this: the peer's process is gone, and whoever waits
    /// should know. 1.5 s: many round trips through a relay. One that said, to us or to the relay, that it
    /// closes its connection has 30 s. A path that merely went silent, or a circuit that
    /// ended, has the stream's whole patience.
    pub absence: Duration,
    /// Between two hole punches to a peer that stays relayed, once a row of them has failed. 30 s, for 5 min; then
    /// four times as much up to half an hour, and twenty times from then on: a NAT that blocked for a minute is
    /// passed soon, and who never gets through pays little. What changes the outlook is tried at once.
    pub upgrade_again: Duration,
    /// For streams to tell their peers that they end, on shutdown, before the connections close. 500 ms.
    pub parting: Duration,
    /// For the whole shutdown. 2 s.
    pub shutdown: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(30),
            negotiate: Duration::from_secs(10),
            identify: Duration::from_secs(3),
            reserve: Duration::from_secs(10),
            relayed_grace: Duration::from_secs(10),
            direct_grace: Duration::from_secs(60),
            reserve_backoff: (Duration::from_millis(250), Duration::from_secs(2)),
            hold_backoff: (Duration::from_millis(500), Duration::from_secs(300)),
            hold_pace: Duration::from_secs(30),
            absence: Duration::from_millis(1500),
            upgrade_again: Duration::from_secs(30),
            parting: Duration::from_millis(500),
            shutdown: Duration::from_secs(2),
        }
    }
}

/// How many of what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// How strangers and familiar peers, and those of one address, share connections, handshakes, streams and
    /// kept connections.
    pub sharing: Sharing,
    /// Connections in all, direct and relayed. Default 4,096. What each costs: `design/limits.md`.
    pub connections: u32,
    /// Connections over QUIC among them. Default 256. What a peer sends over one and nobody has read takes up to
    /// 8 MiB, which libp2p bounds for each connection only; over TCP it is bounded for all together.
    pub quic_connections: u32,
    /// Connections of one peer: a relayed one, one per transport and family, and their successors
    /// while they overlap. Default 8.
    pub connections_per_peer: u32,
    /// Inbound connections still shaking hands. Default 512.
    pub pending_inbound: u32,
    /// Inbound streams of one service that nobody has accepted yet; the next one is refused. Default 256.
    pub unaccepted_streams: usize,
    /// Live streams of one peer, both directions. An open beyond it waits for one of them to end; a peer's is
    /// refused. Where this node answers for several services, each has an equal share for certain. Below Yamux's
    /// 512 and QUIC's 256 per connection, at which the whole connection would end. Default 128.
    pub streams_per_peer: usize,
    /// Streams that peers opened to us or ask for, of all peers together; the next one is refused. Default
    /// 2,048: with the windows that each may fill they hold 1 GiB at most, beside the budget for larger ones.
    /// Streams that our own program opens are not among them.
    pub streams_of_peers: usize,
    /// Opens under way at once. Default 1,024.
    pub opens: usize,
    /// Relays in use at once. Default 16.
    pub relays: usize,
    /// Peers that a connection is kept to. Default 256.
    pub holds: usize,
    /// Connections that peers may ask us to keep although nothing uses them, one a peer. Default
    /// 1,024.
    pub held_by_peers: usize,
    /// Peers whose addresses are remembered. Default 4,096.
    pub known_peers: usize,
    /// Addresses remembered per peer. Default 16.
    pub addresses_per_peer: usize,
    /// Peers remembered as familiar because our program used them or let them in; and, apart from these,
    /// peers that services announce they would let in. Only to such peers private addresses are shown.
    /// Default 16,384.
    pub familiar_peers: usize,
    /// Addresses that peers named and that are dialled, in an hour.
    pub dials: DialLimits,
}

/// How places of one kind are shared among those who ask for them: identities are free, addresses are not.
/// A source is one IPv4 address or IPv6 /64, or one relay that circuits come through; a /24 or /48 gets twice
/// what a source gets. Familiar peers are those that our program uses or that a service would let in; what
/// they have is counted apart from what strangers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Percent of all places that one source may have; but 64, or half of all if that is less, so that an
    /// office fits in. Default 25: one address leaves room for others. More lets one address take what others
    /// need; less turns away carriers' NATs where many share one.
    pub source_percent: u8,
    /// Percent of all places that strangers leave to familiar peers. Default 25. It does not help where a
    /// service lets everybody in: there everybody becomes familiar.
    pub kept_percent: u8,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { source_percent: 25, kept_percent: 25 }
    }
}

impl Sharing {
    /// What one source gets of `all`.
    pub(crate) fn of_source(self, all: usize) -> usize {
        percent(all, self.source_percent).max((all / 2).min(SOURCE_LEAST)).max(1)
    }

    /// What strangers leave of `all`.
    pub(crate) fn kept(self, all: usize) -> usize {
        percent(all, self.kept_percent)
    }
}

/// A household or an office.
const SOURCE_LEAST: usize = 64;

fn percent(all: usize, percent: u8) -> usize {
    all.saturating_mul(percent.min(100).into()) / 100
}

/// How many addresses that peers named are dialled in an hour. What strangers use up is not taken from
/// familiar peers: our program uses those, or a service lets them in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DialLimits {
    /// Of one stranger. 64: two upgrades that fail with eight addresses each.
    pub of_stranger: u32,
    /// Of all strangers together. 4,096: a public service is found by as many new peers with one address.
    pub of_strangers: u32,
    /// Of one familiar peer. 256.
    pub of_familiar: u32,
    /// Of all familiar peers together. 16,384.
    pub of_familiars: u32,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self { of_stranger: 64, of_strangers: 4096, of_familiar: 256, of_familiars: 16_384 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sharing: Sharing::default(),
            connections: 4096,
            quic_connections: 256,
            connections_per_peer: 8,
            pending_inbound: 512,
            unaccepted_streams: 256,
            streams_per_peer: 128,
            streams_of_peers: 2048,
            opens: 1024,
            relays: 16,
            holds: 256,
            held_by_peers: 1024,
            known_peers: 4096,
            addresses_per_peer: 16,
            familiar_peers: 16_384,
            dials: DialLimits::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            global: GlobalScope::default(),
            stun_servers: Vec::new(),
            ranges: Ranges::default(),
            transports: [Transport::Tcp, Transport::Quic],
            upgrades: Upgrades::AtOnce,
            port_mapping: PortMapping::On,
            relay_mode: RelayMode::default(),
            proxy: None,
            streams: crate::stream::machine::Config::default(),
            when_dropped: WhenDropped::ShutDown,
            deadlines: Deadlines::default(),
            limits: Limits::default(),
            journal: None,
        }
    }
}
