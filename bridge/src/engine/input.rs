//! What the engine is told and what it answers: ids and facts, no I/O object.

mod grant;
mod ids;
mod opened;
mod punch;
mod resolved;
mod substream;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    grant::{CircuitLimit, Grant},
    ids::{DialId, InboundId, OpenId, PingId, ReserveId, TestId},
    opened::Opened,
    punch::{Exchange, Offer, Role},
    resolved::Resolved,
    substream::{Queue, SubstreamFailure},
};
use super::paths::{
    nat::{Ask, ProbeId, RunId},
    places::Full,
};
use crate::{
    addr::{HintSource, Ranges, RelayAddr, RelayLocator, RelayName, stun::StunServer},
    error::{
        CloseCause, DialFailureReason, Family, OpenError, Refusal, ReserveFailure, Tried, UpgradeFailure,
    },
    event::MappingProtocol,
    path::{ConnectionId, Path, Transport},
    service::Service,
    stream::{StreamId, StreamKey, machine::LegId},
    word::Word,
};

/// What a test of an address said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The server's dial arrived, from this host.
    Reached { from: IpAddr },
    /// It did not.
    Unreached,
    /// The server would not or could not say.
    Unanswered,
}

/// A listener of ours behind a router, which translates its private IPv4 address or guards its public IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listener {
    pub(crate) transport: Transport,
    pub(crate) at: SocketAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Input {
    Open {
        open: OpenId,
        peer: PeerId,
        service: Service,
    },
    /// Somebody wants to know how long an answer takes.
    Ping {
        ping: PingId,
        peer: PeerId,
    },
    Hold {
        peer: PeerId,
    },
    /// No connection need be kept to it any more.
    LetGo {
        peer: PeerId,
    },
    Learn {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// As [`Input::Learn`], by the peer's own word.
    Hear {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// As [`Input::Learn`], by somebody who need not be the peer.
    Hint {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: HintSource,
    },
    Reserve {
        #[serde(with = "super::record::relay")]
        relay: RelayAddr,
    },
    /// As [`Input::Reserve`] for each, but several may be addresses of one relay: none is dialled before all are known.
    ReserveAll(#[serde(with = "super::record::relays")] Vec<RelayLocator>),
    /// Try now what rests until its next attempt: for this peer or relay, or for all.
    Retry(Option<PeerId>),
    Close {
        connection: ConnectionId,
    },
    Shutdown,
    Listening {
        address: Multiaddr,
    },
    ListeningEnded {
        address: Multiaddr,
    },
    /// Our router lets what comes to this address, of its own or over IPv6 of ours, through to our listener.
    PortMapped {
        transport: Transport,
        external: SocketAddr,
        by: MappingProtocol,
    },
    /// It does not any more.
    PortMappingLost {
        transport: Transport,
        family: Family,
    },
    ConnectionOpened(Opened),
    ConnectionClosed {
        connection: ConnectionId,
        #[serde(with = "super::record::close_cause")]
        cause: CloseCause,
    },
    ConnectionRefused {
        peer: Option<PeerId>,
        full: Full,
    },
    DialFailed {
        dial: DialId,
        reason: DialFailureReason,
    },
    /// Somebody else answered at one of the addresses of a dial, which ended with that.
    SomebodyElse {
        dial: DialId,
        obtained: PeerId,
        address: Multiaddr,
    },
    /// These sources look for whomever a stream is opened to and no way is known, and answer within `patience` if they
    /// know it; none: nobody does.
    SoughtBy {
        sources: Vec<String>,
        patience: Duration,
    },
    /// The dial of a punch failed, at every address.
    PunchFailed {
        dial: DialId,
        tried: Vec<Tried>,
    },
    /// The peer answered [`Action::AskPunch`]. `same_host`: it proved to run on this one.
    PunchAnswered {
        exchange: Exchange,
        offer: Offer,
        same_host: bool,
        round_trip: Duration,
    },
    /// The peer asks for our addresses, and names its own.
    PunchOffered {
        exchange: Exchange,
        offer: Offer,
        same_host: bool,
    },
    /// The peer says: dial now.
    PunchSync {
        exchange: Exchange,
    },
    /// The exchange about a punch came to nothing.
    PunchExchangeFailed {
        exchange: Exchange,
        #[serde(with = "super::record::upgrade_failure")]
        reason: UpgradeFailure,
    },
    /// Punches may be made, or not any more.
    AllowUpgrades {
        allowed: bool,
    },
    /// The operator lets us speak with other ranges from now on.
    KeepTo {
        ranges: Ranges,
    },
    /// A connection leads to an address of a range that the operator no longer lets us speak with.
    Barred {
        connection: ConnectionId,
    },
    /// A service would let these peers in, and no others any more.
    Welcome {
        service: Service,
        peers: Vec<PeerId>,
    },
    Identified {
        connection: ConnectionId,
        observed: Multiaddr,
    },
    /// The other end of a connection tests addresses.
    TestsOffered {
        connection: ConnectionId,
    },
    /// What came of [`Action::TestAddress`].
    AddressTested {
        test: TestId,
        outcome: Outcome,
    },
    Unresponsive {
        connection: ConnectionId,
    },
    /// The address that a connection leaves from is no longer ours, or what goes to its peer leaves from another.
    AddressGone {
        connection: ConnectionId,
    },
    /// What goes to the internet leaves from another address of this host than before, or can leave again.
    NetworkChanged {
        /// Dials that leave from that address already.
        begun: Vec<DialId>,
    },
    /// This host, or our process, slept so long.
    Slept {
        lasted: Duration,
    },
    /// `at`: what our wall clock shows.
    Reserved {
        request: ReserveId,
        grant: Grant,
        at: SystemTime,
    },
    ReserveFailed {
        request: ReserveId,
        failure: ReserveFailure,
    },
    /// The peer accepted a stream of ours; the program has it.
    StreamOpened {
        open: OpenId,
        key: StreamKey,
        connection: ConnectionId,
        #[serde(with = "super::record::path")]
        path: Path,
    },
    /// An open came to nothing on its connection, or altogether. The stream that was asked for stays the same on
    /// every connection that it is tried on.
    SubstreamFailed {
        open: OpenId,
        failure: SubstreamFailure,
    },
    InboundStream {
        inbound: InboundId,
        connection: ConnectionId,
        stream: StreamId,
        service: Service,
        queue: Queue,
    },
    /// A peer's stream was accepted; the program has it.
    StreamAccepted {
        inbound: InboundId,
        key: StreamKey,
        service: Service,
        #[serde(with = "super::record::path")]
        path: Path,
    },
    /// The peer asks for it by another connection: it has lost the one before.
    RequestMoved {
        inbound: InboundId,
        connection: ConnectionId,
    },
    /// A peer's stream was refused by the program, or nothing is left of it.
    RequestEnded {
        inbound: InboundId,
    },
    /// A connection carries a stream, or is to.
    LegStarted {
        key: StreamKey,
        connection: ConnectionId,
        leg: LegId,
    },
    /// A connection does not carry a stream any more.
    LegEnded {
        connection: ConnectionId,
        leg: LegId,
    },
    StreamMoved {
        key: StreamKey,
        to: ConnectionId,
    },
    /// A connection did not take the stream. `silent`: it said nothing at all.
    MoveFailed {
        key: StreamKey,
        connection: ConnectionId,
        silent: bool,
    },
    /// No connection carries the stream any more. `silent`: the last one said nothing at all.
    StreamDetached {
        key: StreamKey,
        connection: Option<ConnectionId>,
        silent: bool,
    },
    StreamClosed {
        key: StreamKey,
    },
    /// The peer answered a ping on this connection: so long after it was asked, and after that was due.
    Responsive {
        connection: ConnectionId,
        round_trip: Duration,
        took: Duration,
    },
    /// The peer pinged us on this connection.
    Asked {
        connection: ConnectionId,
    },
    /// From now on pings pass on this connection so often.
    Paced {
        connection: ConnectionId,
        interval: Duration,
    },
    /// The other end of a connection said something.
    Heard {
        connection: ConnectionId,
        word: Word,
    },
    /// Not much is left of what a relay lets this connection carry.
    NearlySpent {
        connection: ConnectionId,
    },
    /// When anything was last heard on this connection; none if never.
    Pulse {
        connection: ConnectionId,
        #[serde(with = "super::record::moment")]
        last: Option<Instant>,
    },
    /// A STUN server's answer to [`Action::AskStun`] came from `from`: it sees us at `mapped`, and says that `other` is
    /// its other address.
    StunAnswered {
        probe: ProbeId,
        from: SocketAddr,
        mapped: SocketAddr,
        other: Option<SocketAddr>,
    },
    /// A STUN server does not do what it was asked for, or cannot be asked from here.
    StunRefused {
        probe: ProbeId,
    },
    /// What came of [`Action::ResolveRelays`].
    RelaysResolved(Resolved),
    /// What the name of a STUN server stands for; nothing if that could not be found out.
    StunResolved {
        run: RunId,
        server: StunServer,
        ips: Vec<IpAddr>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The peer answered on this connection, after so long; none: there is no connection.
    Pinged {
        ping: PingId,
        answer: Option<(ConnectionId, Duration)>,
    },
    Dial {
        dial: DialId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Over this connection to the relay.
    DialCircuit {
        dial: DialId,
        peer: PeerId,
        relay: RelayAddr,
        link: ConnectionId,
    },
    /// Ask for a reservation on this connection; answered by [`Input::Reserved`] or [`Input::ReserveFailed`].
    Reserve {
        request: ReserveId,
        relay: RelayAddr,
        connection: ConnectionId,
    },
    /// Have our router let everybody through to these listeners, and to no others any more; each that it does is told by
    /// [`Input::PortMapped`].
    MapPorts {
        listeners: Vec<Listener>,
    },
    /// Have a relay dial this address of ours; answered by [`Input::AddressTested`].
    TestAddress {
        test: TestId,
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
    },
    /// Others reach us at this address, or not any more.
    Confirm {
        address: Multiaddr,
        confirmed: bool,
    },
    /// These peers are familiar from now on, or no longer.
    Acquainted {
        peers: Vec<PeerId>,
        familiar: bool,
    },
    /// The reservation over this connection is held no more.
    Release {
        connection: ConnectionId,
    },
    /// Name our addresses to the peer, and ask for its own; answered by [`Input::PunchAnswered`].
    AskPunch {
        exchange: Exchange,
        peer: PeerId,
        offer: Offer,
    },
    /// Answer [`Input::PunchOffered`]; followed by [`Input::PunchSync`].
    AnswerPunch {
        exchange: Exchange,
        peer: PeerId,
        offer: Offer,
    },
    /// Tell the peer to dial.
    SyncPunch {
        exchange: Exchange,
        peer: PeerId,
    },
    /// Let go of the exchange.
    EndPunch {
        exchange: Exchange,
        peer: PeerId,
    },
    /// Dial, as the other end of a punch does at the same moment; answered as a dial is, or by
    /// [`Input::PunchFailed`].
    Punch {
        dial: DialId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        role: Role,
    },
    OpenSubstream {
        open: OpenId,
        peer: PeerId,
        connection: ConnectionId,
        service: Service,
    },
    MoveStream {
        key: StreamKey,
        connection: ConnectionId,
    },
    /// Say when anything was last heard on this connection, by [`Input::Pulse`].
    TakePulse {
        connection: ConnectionId,
    },
    /// Tell the other end of a connection.
    Say {
        peer: PeerId,
        connection: ConnectionId,
        word: Word,
    },
    /// Ask a STUN server, or ask it again; answered by [`Input::StunAnswered`], [`Input::StunRefused`] or silence.
    AskStun(Ask),
    /// Look a name of relays up, which the operator may have given; answered by [`Input::RelaysResolved`].
    ResolveRelays {
        name: RelayName,
        given: bool,
    },
    /// Look the name of a STUN server up; answered by [`Input::StunResolved`].
    ResolveStun {
        run: RunId,
        server: StunServer,
    },
    /// Give the port of a run back.
    CloseStun {
        run: RunId,
    },
    /// Reset a stream that nobody will give a path any more.
    Forsake {
        key: StreamKey,
    },
    FailOpen {
        open: OpenId,
        error: OpenError,
    },
    Accept {
        inbound: InboundId,
        key: StreamKey,
    },
    /// Let the program decide.
    Ask {
        inbound: InboundId,
    },
    Refuse {
        inbound: InboundId,
        refusal: Refusal,
    },
    /// `dead`: nothing said on it arrives.
    CloseConnection {
        connection: ConnectionId,
        dead: bool,
    },
}
