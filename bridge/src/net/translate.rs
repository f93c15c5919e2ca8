//! From libp2p's events to the engine's inputs. Pure; the one place that matches them.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::{ConnectedPoint, transport::timeout::TransportTimeoutError, upgrade::ProtocolError},
    identify,
    swarm::{self, ConnectionError, DialError, ListenError, SwarmEvent},
};

use super::{
    autonat,
    behaviour::NodeEvent,
    cause::{chain, find_cause, root_cause},
    circuit, control, dcutr, door, guard,
    muxer::Parted,
    ping, quic, substream,
};
use crate::{
    addr::{ip_of, is_circuit, path_of, policy::without_peer, transport_of},
    engine::{
        input::{CircuitLimit, DialId, Input, Opened},
        paths::places::Full,
    },
    error::{CircuitFault, CloseCause, DialFailureReason, DialOutcome, Tried},
    event::Event,
    path::{ConnectionId, Direction},
};

/// A dial that was asked for.
pub(crate) struct Dialling {
    pub(crate) dial: DialId,
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Whether it is one of the two dials of a hole punch.
    pub(crate) punch: bool,
    /// The addresses of this host that led to the internet when it began, over IPv4 and IPv6.
    pub(crate) network: [Option<IpAddr>; 2],
    pub(crate) began: Instant,
}

/// Dials that were asked for, by the connection they will become.
pub(crate) type Dialled = HashMap<swarm::ConnectionId, Dialling>;

/// What the driver must do about an event of the swarm.
pub(crate) enum Translated {
    Input(Input),
    Substream(substream::Event),
    /// To be told to the world as it is.
    Event(Event),
    /// This host has lost an address.
    AddressGone {
        ip: Option<IpAddr>,
        address: Multiaddr,
    },
    Nothing,
}

/// Reads one event. `dialled` is the driver's record of its own dials; an entry is taken out when answered.
/// `limits` is what circuits may carry.
pub(crate) fn translate(
    event: SwarmEvent<NodeEvent>,
    dialled: &mut Dialled,
    limits: &circuit::Limits,
    now: SystemTime,
) -> Translated {
    let input = match event {
        SwarmEvent::Behaviour(event) => return behaviour(event, now),
        SwarmEvent::NewListenAddr { address, .. } if !is_circuit(&address) => {
            Input::Listening { address }
        }
        SwarmEvent::ExpiredListenAddr { address, .. } if !is_circuit(&address) => {
            return Translated::AddressGone { ip: ip_of(&address), address };
        }
        SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
            let dial = dialled.remove(&connection_id).map(|dialling| dialling.dial);
            let limit = limits.get(&connection_id).copied().filter(CircuitLimit::is_any);
            Input::ConnectionOpened(opened(peer_id, connection_id, dial, &endpoint, limit))
        }
        SwarmEvent::ConnectionClosed { connection_id, cause, .. } => Input::ConnectionClosed {
            connection: ConnectionId(connection_id),
            cause: close_cause(cause.as_ref()),
        },
        SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
            let Some(Dialling { dial, punch, began, .. }) = dialled.remove(&connection_id) else {
                return Translated::Nothing;
            };
            match punch {
                true => Input::PunchFailed { dial, tried: tried(&error) },
                false => dial_failed(dial, &error, began.elapsed()),
            }
        }
        SwarmEvent::IncomingConnectionError {
            error: ListenError::Denied { cause }, peer_id, ..
        } => {
            let Some(full) = exceeded(&cause) else { return Translated::Nothing };
            Input::ConnectionRefused { peer: peer_id, full }
        }
        _ => return Translated::Nothing,
    };
    Translated::Input(input)
}

fn behaviour(event: NodeEvent, now: SystemTime) -> Translated {
    let input = match event {
        NodeEvent::Substream(event) => return Translated::Substream(event),
        NodeEvent::Guard(guard::Event::Refused { count }) => {
            return Translated::Event(Event::refused_ranges(count));
        }
        NodeEvent::Guard(guard::Event::Barred { connection }) => {
            Input::Barred { connection: ConnectionId(connection) }
        }
        NodeEvent::Autonat(autonat::Event::Offered { connection }) => Input::TestsOffered { connection },
        NodeEvent::Autonat(autonat::Event::Ended { test, outcome }) => {
            Input::AddressTested { test, outcome }
        }
        NodeEvent::Control(control::Heard { connection, word, .. }) => Input::Heard { connection, word },
        NodeEvent::Identify(identify::Event::Received { connection_id, info, .. }) => {
            Input::Identified { connection: ConnectionId(connection_id), observed: info.observed_addr }
        }
        NodeEvent::Ping(ping::Event { connection, said }) => match said {
            ping::Said::Answered { round_trip, took } => {
                Input::Responsive { connection, round_trip, took }
            }
            ping::Said::Asked => Input::Asked { connection },
            ping::Said::Paced(interval) => Input::Paced { connection, interval },
            ping::Said::Unanswered => Input::Unresponsive { connection },
        },
        NodeEvent::Circuit(circuit::Event::Reserved { request, grant }) => {
            Input::Reserved { request, grant, at: now }
        }
        NodeEvent::Circuit(circuit::Event::Refused { request, failure }) => {
            Input::ReserveFailed { request, failure }
        }
        NodeEvent::Dcutr(dcutr::Event { exchange, said }) => match said {
            dcutr::Said::Answered { offer, same_host, round_trip } => {
                Input::PunchAnswered { exchange, offer, same_host, round_trip }
            }
            dcutr::Said::Offered { offer, same_host } => {
                Input::PunchOffered { exchange, offer, same_host }
            }
            dcutr::Said::Sync => Input::PunchSync { exchange },
            dcutr::Said::Failed(reason) => Input::PunchExchangeFailed { exchange, reason },
        },
        _ => return Translated::Nothing,
    };
    Translated::Input(input)
}

fn opened(
    peer: PeerId,
    connection: swarm::ConnectionId,
    dial: Option<DialId>,
    endpoint: &ConnectedPoint,
    limit: Option<CircuitLimit>,
) -> Opened {
    // On the accepting side of a circuit only our own address names the relay.
    let (path_address, address, direction) = match endpoint {
        ConnectedPoint::Dialer { address, .. } => (address, address, Direction::Outbound),
        ConnectedPoint::Listener { local_addr, send_back_addr } => {
            (local_addr, send_back_addr, Direction::Inbound)
        }
    };
    Opened {
        connection: ConnectionId(connection),
        dial,
        peer,
        path: path_of(path_address),
        direction,
        transport: transport_of(path_address),
        address: address.clone(),
        limit,
    }
}

pub(crate) fn close_cause(cause: Option<&ConnectionError>) -> CloseCause {
    match cause {
        None => CloseCause::Peer,
        Some(ConnectionError::KeepAliveTimeout) => CloseCause::Unused,
        Some(ConnectionError::IO(error)) if is_in_order(error) => CloseCause::Peer,
        Some(ConnectionError::IO(error)) if is_reset(error) => CloseCause::Reset,
        Some(ConnectionError::IO(error)) if is_end(error) => CloseCause::System,
        Some(ConnectionError::IO(error)) => CloseCause::Network { cause: root_cause(error) },
    }
}

/// Whether anything in a chain of causes is a reset, or a write after one.
fn is_reset(error: &(dyn Error + 'static)) -> bool {
    is_kind(error, &[io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe])
}

/// Whether the peer said that it closes the connection.
fn is_in_order(error: &io::Error) -> bool {
    find_cause::<Parted>(error).is_some() || find_cause(error).is_some_and(quic::is_in_order)
}

/// Whether nothing more came, and nobody said why.
fn is_end(error: &io::Error) -> bool {
    is_kind(error, &[io::ErrorKind::UnexpectedEof])
        || matches!(find_cause(error), Some(yamux::ConnectionError::Closed))
}

fn is_kind(error: &(dyn Error + 'static), wanted: &[io::ErrorKind]) -> bool {
    let mut kinds = chain(error).filter_map(|error| Some(error.downcast_ref::<io::Error>()?.kind()));
    kinds.any(|kind| wanted.contains(&kind))
}

fn exceeded(cause: &swarm::ConnectionDenied) -> Option<Full> {
    Some(cause.downcast_ref::<door::TurnedAway>()?.0)
}

/// As [`dial_failure`], but who answered in a peer's place is told with where.
pub(crate) fn dial_failed(dial: DialId, error: &DialError, took: Duration) -> Input {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            Input::SomebodyElse { dial, obtained: *obtained, address: address.clone() }
        }
        error => Input::DialFailed { dial, reason: dial_failure(error, took) },
    }
}

/// `took`: from the start of the dial until it failed.
fn dial_failure(error: &DialError, took: Duration) -> DialFailureReason {
    match error {
        DialError::WrongPeerId { obtained, .. } => DialFailureReason::WrongPeer { obtained: *obtained },
        DialError::Denied { cause } => DialFailureReason::Limit { limit: root_cause(cause) },
        DialError::Transport(failures) => transport_failure(failures, took),
        other => DialFailureReason::Network { cause: root_cause(other) },
    }
}

/// Whether a dial failed only for the port that it was to leave from.
pub(crate) fn is_port_in_use(error: &DialError) -> bool {
    let DialError::Transport(failures) = error else { return false };
    let kinds = [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable];
    !failures.is_empty() && failures.iter().all(|(_, error)| is_kind(error, &kinds))
}

/// What the relay answered, if one did; else what the network said at each address.
fn transport_failure(
    failures: &[(Multiaddr, TransportError<io::Error>)],
    took: Duration,
) -> DialFailureReason {
    if let Some(answer) = failures.iter().find_map(|(_, error)| find_cause::<DialFailureReason>(error)) {
        return answer.clone();
    }
    let circuit = failures.iter().any(|(address, _)| is_circuit(address));
    if !failures.is_empty() && failures.iter().all(|(_, error)| is_timeout(error)) {
        // Each transport gives up after a time of its own. Whole seconds: one failure is told in the same words each time.
        let deadline = Duration::from_secs(took.as_secs_f64().round().max(1.0) as u64);
        return match circuit {
            true => DialFailureReason::CircuitFailed { reason: CircuitFault::Deadline { deadline } },
            false => DialFailureReason::Deadline { deadline },
        };
    }
    let mut causes: Vec<String> = failures.iter().map(|(_, error)| transport_cause(error)).collect();
    causes.dedup();
    let cause = causes.join(", ");
    match circuit {
        true => DialFailureReason::CircuitFailed { reason: CircuitFault::Handshake { cause } },
        false => DialFailureReason::Network { cause },
    }
}

/// What the network said at one address. Whatever answers there in another protocol, most often a web server, is no
/// `invalid data` to people.
fn transport_cause(error: &TransportError<io::Error>) -> String {
    let cause = root_cause(error);
    let invalid = matches!(
        find_cause(error),
        Some(ProtocolError::InvalidMessage | ProtocolError::InvalidProtocol)
    );
    // Where a length was wrong already, the error is one of several crates'; its words are those of the standard library.
    if invalid || cause == io::ErrorKind::InvalidData.to_string() {
        return "what answers there does not speak libp2p, as a web server does not; check the address and its port"
            .to_owned();
    }
    cause
}

/// How each address of a dial failed. Nothing, if none was dialled.
pub(crate) fn tried(error: &DialError) -> Vec<Tried> {
    let DialError::Transport(all) = error else { return Vec::new() };
    let one = |(address, error): &(Multiaddr, TransportError<io::Error>)| Tried {
        address: without_peer(address),
        outcome: outcome(error),
    };
    all.iter().map(one).collect()
}

fn outcome(error: &(dyn Error + 'static)) -> DialOutcome {
    if is_timeout(error) {
        DialOutcome::TimedOut
    } else if is_kind(error, &[io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset]) {
        DialOutcome::Refused
    } else if is_kind(error, &[io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable]) {
        DialOutcome::Unreachable
    } else {
        DialOutcome::Other
    }
}

/// Of the system, of the transport as a whole, or of QUIC.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    is_kind(error, &[io::ErrorKind::TimedOut])
        || matches!(find_cause(error), Some(TransportTimeoutError::<io::Error>::Timeout))
        || matches!(find_cause(error), Some(quic::Error::Late))
        || matches!(find_cause(error), Some(quinn_proto::ConnectionError::TimedOut))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use futures::StreamExt as _;
    use libp2p::identity::Keypair;

    use super::*;
    use crate::{config::Config, net::transports};

    /// How a dial to these fails.
    async fn failed(addresses: &[String]) -> DialError {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut swarm = transports::node(&Config::default(), Keypair::generate_ed25519()).unwrap();
        let opts = swarm::dial_opts::DialOpts::peer_id(PeerId::random()).addresses(addresses);
        swarm.dial(opts.build()).unwrap();
        let failed = async {
            loop {
                if let SwarmEvent::OutgoingConnectionError { error, .. } = swarm.select_next_some().await
                {
                    break error;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), failed).await.unwrap()
    }

    #[tokio::test]
    async fn a_web_server_at_a_relays_port_is_said_to_be_something_else() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer =
            format!("HTTP/1.1 400 Bad Request\r\n\r\n<html>{}</html>", "Bad request. ".repeat(20));
        let port = web.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = web.accept().await {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        let error = failed(&[format!("/ip4/127.0.0.1/tcp/{port}")]).await;
        let said = dial_failure(&error, Duration::ZERO).to_string();
        assert!(said.contains("does not speak libp2p, as a web server does not"), "{said}");
    }

    #[tokio::test]
    async fn dials_that_were_refused_and_that_nobody_answered_are_told_apart() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp, udp) = (silent.local_addr().unwrap().port(), deaf.local_addr().unwrap().port());
        // Port 1 is reserved and refuses at once.
        let addresses = [
            "/ip4/127.0.0.1/tcp/1".to_owned(),
            format!("/ip4/127.0.0.1/tcp/{tcp}"),
            format!("/ip4/127.0.0.1/udp/{udp}/quic-v1"),
        ];
        let tried = tried(&failed(&addresses).await);
        let count = |wanted| tried.iter().filter(|tried| tried.outcome == wanted).count();
        assert_eq!((count(DialOutcome::Refused), count(DialOutcome::TimedOut)), (1, 2), "{tried:?}");
    }

    #[tokio::test]
    async fn who_accepts_and_never_speaks_has_not_answered_in_time_and_is_no_failure_of_the_network() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp, udp) = (silent.local_addr().unwrap().port(), deaf.local_addr().unwrap().port());
        let addresses =
            [format!("/ip4/127.0.0.1/tcp/{tcp}"), format!("/ip4/127.0.0.1/udp/{udp}/quic-v1")];
        let began = Instant::now();
        let error = failed(&addresses).await;
        let DialFailureReason::Deadline { deadline } = dial_failure(&error, began.elapsed()) else {
            panic!("{error:?}");
        };
        assert!(deadline.abs_diff(began.elapsed()) < Duration::from_secs(1), "{deadline:?}");
    }

    #[tokio::test]
    async fn how_long_an_answer_was_waited_for_is_told_as_it_was_and_not_as_another_transport_waits() {
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = deaf.local_addr().unwrap().port();
        let error = failed(&[format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]).await;
        let said = |took| dial_failure(&error, took).to_string();
        assert_eq!(said(Duration::from_millis(3011)), "no answer within 3 s");
        assert_eq!(said(Duration::from_millis(2960)), "no answer within 3 s");
    }
}
