//! The one policy for addresses, at four gates: what is said of us ([`Policy::shows`]), what is remembered of a peer
//! ([`Policy::learns`]), what is dialled ([`Policy::judge`]; what a name led to, by the guard in `net`) and who is
//! answered ([`Policy::answers`]).
//!
//! What the operator's [`Ranges`] keep away passes no gate. The rest concerns addresses that did not come from our own
//! operator, whatever brought them: a hole punch's exchange, a ticket, identify, a hint.
//!
//! A peer that names an address wishes that we dial it. Public ones we dial for anybody. Private ones
//! would let strangers look around in our network, so they are dialled only for a *familiar* peer (our
//! program uses it, or a service lets it in) that seems to be in the same network; those of this very host
//! only for one that proved to run here. What is refused is counted.

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use super::{
    GlobalScope, Ranges, RelayAddr, is_circuit, peer_of, ranges::RangeFault, scope::Scope, socket_of,
    split_circuit, split_named_circuit, translated::inside, transport_of, web::WebPlace,
};
use crate::path::Transport;

/// Addresses of one peer that are dialled, or of ours that are offered, for one punch: as many as libp2p
/// dials at once, so that none waits for another.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// Addresses of a peer that are taken for mapped at its router: one for each of two transports and families.
pub(crate) const MAPPED_MAX: usize = 4;

/// Addresses whose first bits are these are taken for one network. The system does not tell us how its
/// networks are cut; homes and offices rarely have smaller ones.
const PREFIX_V4_BITS: u32 = 24;
const PREFIX_V6_BITS: u32 = 64;

/// Who named an address. Declared best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Our own operator, by flags or through the program. Not judged.
    Operator,
    /// Our router: it forwards the address to us, whoever comes. What others see of us may be open to them alone.
    Router,
    /// A relay that reached us there.
    Confirmed,
    /// A relay that sees our packets come from there.
    Relay,
    /// Our own system: this host has it.
    Interface,
    /// The peer itself, in an exchange with it or in a ticket.
    Peer,
    /// Somebody who need not be the peer.
    Hinted(HintSource),
}

/// Where a hint comes from: what says where a peer may be found, and is not the peer. Declared best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HintSource {
    /// A program on this host, as the system proves.
    ThisHost,
    /// Somebody on a network of this host; the addresses are of that network, as the system says.
    LocalNetwork,
    /// The peer itself, in words that it signed and others keep.
    Contact,
    /// It led to the peer once, as this host remembers.
    Memory,
}

impl HintSource {
    /// Whether it says so again while it holds; then an address that led nowhere need not be remembered.
    pub(crate) fn repeats(self) -> bool {
        match self {
            Self::ThisHost | Self::LocalNetwork | Self::Contact => true,
            Self::Memory => false,
        }
    }
}

/// How near an address is, judged from here. Declared best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// On this host.
    ThisHost,
    /// In a network of this host.
    ThisNetwork,
    /// Somewhere in the internet.
    Public,
    /// In another network behind our own public address.
    SameRouter,
}

/// An address under which this node or a peer may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: Multiaddr,
    pub(crate) source: Source,
    pub(crate) nearness: Nearness,
    /// When it was last named.
    pub(crate) seen: Instant,
}

/// The order of candidates; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    nearness: Nearness,
    source: Source,
    age: Reverse<Instant>,
}

impl Candidate {
    pub(crate) fn score(&self) -> Score {
        let Self { nearness, source, seen, .. } = *self;
        Score { nearness, source, age: Reverse(seen) }
    }
}

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Not of the form `/ip…/…/tcp/…` or `/ip…/…/udp/…/quic-v1`, a circuit, or of another peer.
    #[error("not a plain TCP or QUIC address of the peer")]
    Unusable,
    /// Nobody's, or one under which clouds hand out credentials.
    #[error("an address that is never dialled")]
    Forbidden,
    /// Of a private network or of this host, for a peer that has no business there.
    #[error("a private address that does not seem to be in our network, or of a peer we do not know")]
    Private,
    /// In a range that our operator keeps away.
    #[error("an address {0}")]
    Range(#[from] RangeFault),
}

/// Addresses that a peer named and that are not dialled, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAddresses {
    /// Not plain TCP or QUIC addresses of this peer.
    pub unusable: u32,
    /// Addresses that are never dialled: link-local, cloud metadata, multicast, reserved.
    pub forbidden: u32,
    /// Private addresses: not in our network, or of a peer that neither we nor a service of ours knows.
    pub private: u32,
    /// More than are dialled of one peer.
    pub surplus: u32,
    /// Addresses of ranges that our operator keeps away.
    #[serde(default)]
    pub denied: u32,
}

impl RefusedAddresses {
    /// All of them together.
    pub fn total(&self) -> u32 {
        self.unusable + self.forbidden + self.private + self.surplus + self.denied
    }

    pub(crate) fn count(&mut self, refused: Refused) {
        match refused {
            Refused::Unusable => self.unusable += 1,
            Refused::Forbidden => self.forbidden += 1,
            Refused::Private => self.private += 1,
            Refused::Range(_) => self.denied += 1,
        }
    }
}

/// How many, and of which reasons.
impl std::fmt::Display for RefusedAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reasons = [
            (self.private, "private"),
            (self.forbidden, "forbidden"),
            (self.unusable, "unusable"),
            (self.surplus, "too many"),
            (self.denied, "of ranges that are kept away"),
        ];
        let given = reasons.iter().filter(|(count, _)| *count > 0);
        let given: Vec<String> = given.map(|(count, reason)| format!("{count} {reason}")).collect();
        match given.is_empty() {
            true => write!(f, "none refused"),
            false => write!(f, "{} refused ({})", self.total(), given.join(", ")),
        }
    }
}

/// What this node knows of a peer when it judges its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acquaintance {
    /// Our program uses it, or a service of ours lets it in.
    pub(crate) familiar: bool,
    /// It proved to run on this host.
    pub(crate) same_host: bool,
}

/// Where this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Here {
    /// The addresses of this host that it listens on.
    pub(crate) interfaces: Vec<IpAddr>,
    /// The public addresses that relays see us behind.
    pub(crate) public: Vec<IpAddr>,
}

/// What may be dialled of the addresses that a peer named, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) chosen: Vec<Candidate>,
    pub(crate) refused: RefusedAddresses,
}

/// Decides at each of the four gates.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    global: GlobalScope,
    ranges: Ranges,
}

impl Policy {
    pub(crate) fn new(global: GlobalScope, ranges: Ranges) -> Self {
        Self { global, ranges }
    }

    /// Whether the operator keeps any range away.
    pub(crate) fn has_ranges(&self) -> bool {
        self.ranges != Ranges::default()
    }

    /// These ranges hold from now on; true if others held before.
    pub(crate) fn keep_to(&mut self, ranges: Ranges) -> bool {
        let changed = self.ranges != ranges;
        self.ranges = ranges;
        changed
    }

    /// Whether an address of ours may be shown to others, and how near they must be. Which ranges are allowed does
    /// not matter here: they are those of our peers.
    pub(crate) fn shows(&self, address: &Multiaddr) -> Option<Nearness> {
        let ip = socket_of(address)?.ip();
        match self.scope(ip) {
            _ if self.ranges.denies(ip) => None,
            Scope::Public => Some(Nearness::Public),
            Scope::Private => Some(Nearness::ThisNetwork),
            Scope::Loopback => Some(Nearness::ThisHost),
            Scope::Forbidden => None,
        }
    }

    /// Whether to remember an address that a peer named for itself: one that will never be dialled is not. A circuit is
    /// judged by its relay, and a relay's name when it is looked up.
    pub(crate) fn learns(&self, address: &Multiaddr, peer: PeerId) -> Result<(), Refused> {
        let ip = match split_circuit(address) {
            Ok(Some((_, behind))) if behind.is_some_and(|behind| behind != peer) => {
                return Err(Refused::Unusable);
            }
            Ok(Some((relay, _))) if is_named(relay.address()) => return Ok(()),
            Ok(Some((relay, _))) => plain_relay(&relay)?.1,
            Ok(None) => plain(address, peer)?.1,
            Err(_) => {
                let named = split_named_circuit(address).map(|(_, behind)| behind);
                let leads = named.is_some_and(|behind| behind.is_none_or(|behind| behind == peer));
                return if leads { Ok(()) } else { Err(Refused::Unusable) };
            }
        };
        self.ranges.judge(ip, false)?;
        if self.scope(ip) == Scope::Forbidden { Err(Refused::Forbidden) } else { Ok(()) }
    }

    /// Whether to answer a host that comes from this address. Only ranges keep it away: it proves by coming that the
    /// address is its own, and learns nothing by being answered.
    pub(crate) fn answers(&self, ip: IpAddr, named_relay: bool) -> Result<(), RangeFault> {
        self.ranges.judge(ip, named_relay)
    }

    pub(crate) fn scope(&self, ip: IpAddr) -> Scope {
        self.global.scope(ip)
    }

    /// Whether an address is one of the internet.
    pub(crate) fn is_public(&self, address: &Multiaddr) -> bool {
        socket_of(address).is_some_and(|socket| self.scope(socket.ip()) == Scope::Public)
    }

    /// Which of a peer's `addresses` may be dialled: at most [`CANDIDATES_MAX`], the best ones.
    pub(crate) fn select(
        &self,
        addresses: &[Multiaddr],
        peer: PeerId,
        known: Acquaintance,
        here: &Here,
        now: Instant,
    ) -> Selection {
        let same_router = self.is_behind_our_router(addresses, here);
        let mut selection = Selection::default();
        for address in addresses {
            match self.judge(address, peer, known, same_router, here) {
                Ok((address, nearness)) => {
                    let candidate = Candidate { address, source: Source::Peer, nearness, seen: now };
                    if !selection.chosen.iter().any(|other| other.address == candidate.address) {
                        selection.chosen.push(candidate);
                    }
                }
                Err(refused) => selection.refused.count(refused),
            }
        }
        // Stable: among equals the peer's own order holds.
        selection.chosen.sort_by_key(Candidate::score);
        let surplus = selection.chosen.len().saturating_sub(CANDIDATES_MAX);
        selection.chosen.truncate(CANDIDATES_MAX);
        selection.refused.surplus = surplus as u32;
        selection
    }

    /// Whether a peer that names these addresses seems to share our public address.
    pub(crate) fn is_behind_our_router(&self, addresses: &[Multiaddr], here: &Here) -> bool {
        addresses.iter().filter_map(socket_of).any(|socket| here.public.contains(&socket.ip()))
    }

    /// As [`Policy::judge`], for a relay that a peer named. Relays may be named by their host names: what
    /// these lead to is judged where they are looked up, by the guard before the transports.
    pub(crate) fn judge_relay(
        &self,
        relay: &RelayAddr,
        known: Acquaintance,
        here: &Here,
    ) -> Result<(Multiaddr, Nearness), Refused> {
        if is_named(relay.address()) {
            return Ok((relay.address().clone(), Nearness::Public));
        }
        let (address, _) = plain_relay(relay)?;
        let (judged, nearness) = self.judge(&address, relay.peer(), known, false, here)?;
        // A WebSocket is as near as its TCP socket.
        let web = WebPlace::of(relay.address()).is_some();
        Ok((if web { relay.address().clone() } else { judged }, nearness))
    }

    /// As [`Policy::judge`], for an address that somebody else names. What is of a network of this host, or on it, need
    /// not be concluded from addresses.
    pub(crate) fn judge_hint(
        &self,
        address: &Multiaddr,
        peer: PeerId,
        known: Acquaintance,
        source: HintSource,
        here: &Here,
    ) -> Result<(Multiaddr, Nearness), Refused> {
        let same_host = known.same_host || source == HintSource::ThisHost;
        let local = source == HintSource::LocalNetwork;
        self.judge(address, peer, Acquaintance { same_host, ..known }, local, here)
    }

    /// Whether one address may be dialled, in its plain form, and how near it is.
    pub(crate) fn judge(
        &self,
        address: &Multiaddr,
        peer: PeerId,
        known: Acquaintance,
        same_router: bool,
        here: &Here,
    ) -> Result<(Multiaddr, Nearness), Refused> {
        let (address, ip) = plain(address, peer)?;
        self.ranges.judge(ip, false)?;
        self.nearness(ip, known, same_router, here).map(|nearness| (address, nearness))
    }

    /// Whether a relay may be dialled at an address that the records of its name tell. Whoever writes the records need not
    /// be trusted with our network: a private address is dialled only if it is in a network of this host. `given`: our
    /// operator gave the name, which counts as naming the relay.
    pub(crate) fn judge_record(
        &self,
        relay: &RelayAddr,
        given: bool,
        here: &Here,
    ) -> Result<(), Refused> {
        // What a host name leads to is judged where it is looked up.
        if is_named(relay.address()) {
            return Ok(());
        }
        let (_, ip) = plain_relay(relay)?;
        self.ranges.judge(ip, given)?;
        let known = Acquaintance { familiar: true, same_host: false };
        self.nearness(ip, known, false, here).map(drop)
    }

    fn nearness(
        &self,
        ip: IpAddr,
        known: Acquaintance,
        same_router: bool,
        here: &Here,
    ) -> Result<Nearness, Refused> {
        let ours = here.interfaces.contains(&ip) && !self.global.is_assumed(ip);
        let near = here.interfaces.iter().any(|own| is_same_network(*own, ip));
        let nearness = match self.scope(ip) {
            Scope::Forbidden => return Err(Refused::Forbidden),
            Scope::Public if !ours => return Ok(Nearness::Public),
            _ if !known.familiar => return Err(Refused::Private),
            Scope::Loopback | Scope::Public => known.same_host.then_some(Nearness::ThisHost),
            Scope::Private if ours => known.same_host.then_some(Nearness::ThisHost),
            Scope::Private if near => Some(Nearness::ThisNetwork),
            Scope::Private => same_router.then_some(Nearness::SameRouter),
        };
        nearness.ok_or(Refused::Private)
    }
}

/// Whether an address begins with a name that has to be looked up.
pub(crate) fn is_named(address: &Multiaddr) -> bool {
    let named = |part| {
        matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    };
    address.iter().next().is_some_and(named)
}

/// As [`plain`], for a relay; of a WebSocket the address of its TCP socket.
fn plain_relay(relay: &RelayAddr) -> Result<(Multiaddr, IpAddr), Refused> {
    let web = WebPlace::of(relay.address()).and_then(|place| place.socket());
    match web {
        Some(socket) => plain(&at(socket, Transport::Tcp), relay.peer()),
        None => plain(relay.address(), relay.peer()),
    }
}

/// A TCP or QUIC address without the peer's id, and its IP address.
fn plain(address: &Multiaddr, peer: PeerId) -> Result<(Multiaddr, IpAddr), Refused> {
    let named = peer_of(address);
    if is_circuit(address) || named.is_some_and(|named| named != peer) {
        return Err(Refused::Unusable);
    }
    let address = without_peer(address);
    let socket = socket_of(&address).filter(|socket| socket.port() != 0).ok_or(Refused::Unusable)?;
    // Whatever follows the socket is not ours to speak.
    if at(socket, transport_of(&address)) != address {
        return Err(Refused::Unusable);
    }
    Ok((address, inside(socket.ip())))
}

/// The address without the peer id at its end.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// A socket's address, as a multiaddr.
pub(crate) fn at(socket: SocketAddr, transport: Transport) -> Multiaddr {
    let ip = Multiaddr::from(socket.ip());
    match transport {
        Transport::Tcp => ip.with(Protocol::Tcp(socket.port())),
        Transport::Quic => ip.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
        Transport::Websocket => ip.with(Protocol::Tcp(socket.port())).with(Protocol::Ws("/".into())),
    }
}

fn is_same_network(a: IpAddr, b: IpAddr) -> bool {
    match (inside(a), inside(b)) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= PREFIX_V4_BITS,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= PREFIX_V6_BITS,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
