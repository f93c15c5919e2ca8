#![allow(clippy::unwrap_used)]
#[cfg(feature = "kad")]
mod dht;
mod examples;
mod facts;

use std::{collections::BTreeSet, time::Duration};

use punchline_bridge::{
    Event as Net, Path,
    error::OpenError,
    event::{Asked, LimitOwner},
    path::Direction,
    status::Health,
};

use self::examples::*;
use super::*;
use crate::report::{Failure, tests::documented};

#[cfg(feature = "kad")]
use self::dht::of_the_dht;

/// A program without a DHT documents its events all the same.
#[cfg(not(feature = "kad"))]
fn of_the_dht() -> Vec<(Event, Level, &'static str)> {
    Vec::new()
}

fn name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

#[test]
fn every_event_has_decided_what_it_says() {
    let of_the_network =
        of_the_network().into_iter().map(|(event, level, says)| (event.into(), level, says));
    let all: Vec<(Event, Level, &str)> =
        of_the_network.chain(of_programs()).chain(of_the_dht()).collect();
    let names: BTreeSet<String> = all.iter().map(|(event, ..)| name(event)).collect();
    let documented = documented();
    let known: BTreeSet<String> =
        documented.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    #[cfg(feature = "kad")]
    assert_eq!(names, known, "each documented event stands in a table here, and no other");
    #[cfg(not(feature = "kad"))]
    assert!(names.is_subset(&known));
    for (event, level, says) in all {
        match sentence(&event, &mut Said::default(), Instant::now()) {
            None => assert_eq!(says, "", "{event:?}"),
            Some((found, words)) => {
                assert!(!says.is_empty() && words.starts_with(says), "{words}");
                assert_eq!(found, level, "{words}");
                assert!(!words.contains('\n') && !words.contains("203.0.113.9"), "{words}");
            }
        }
    }
}

#[test]
fn no_line_for_programs_names_an_address_of_a_peer_either() {
    let of_the_network = of_the_network().into_iter().map(|(event, ..)| event.into());
    let of_others = of_programs().into_iter().chain(of_the_dht()).map(|(event, ..)| event);
    for event in of_the_network.chain(of_others) {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&event) else {
            panic!("{event:?}")
        };
        let facts = crate::report::entry::facts(&event, &fields, |_| None);
        let facts = serde_json::Value::Object(facts).to_string();
        assert!(!facts.contains("203.0.113.9"), "{facts}");
    }
}

#[test]
fn peers_that_have_a_name_are_called_by_it_and_programs_have_both() {
    let text = format!("alice = \"{}\"\nbob = \"{}\"\n", peer(), relay());
    let names = crate::names::Names::parse(&text, std::path::Path::new("peers.toml")).unwrap();
    let mut said = Said::default();
    said.calls(std::sync::Arc::new(names));
    let failed =
        |reason| Event::from(Net::PeerUnreachable { peer: peer(), reason, failures: 1, retry_in_ms: 5 });
    let lines = read(&mut said, [opened(relayed()).into(), failed(unreachable())], Instant::now());
    let wanted = [
        "alice is connected through relay bob",
        "alice is not reached: directly, at 2 addresses: no answer within 10 s; through relay bob: the relay holds no \
         reservation of it; is it running, and does it use this relay? It is tried again by itself",
    ];
    assert_eq!(lines, wanted);
    let reason = "the peer is not on the allow list".to_owned();
    let refused = GatewayEvent::AccessRefused { peer: peer(), service: service(), reason }.into();
    let lines = read(&mut said, [refused], Instant::now());
    assert!(lines[0].starts_with("alice may not") && lines[0].contains("--allow alice"), "{lines:?}");
    let event = Event::from(opened(relayed()));
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&event) else { panic!() };
    let facts = crate::report::entry::facts(&event, &fields, |peer| said.named(peer));
    assert_eq!((&facts["peer"], &facts["peer_name"]), (&peer().to_string().into(), &"alice".into()));
    assert_eq!((&facts["relay"], &facts["relay_name"]), (&relay().to_string().into(), &"bob".into()));
}

#[test]
fn strangers_in_crowds_do_not_silence_the_lines_about_a_friend() {
    let (mut said, now) = (Said::default(), Instant::now());
    said.knows([peer()]);
    let refused = |peer| {
        let reason = "the peer is not on the allow list".to_owned();
        Event::from(GatewayEvent::AccessRefused { peer, service: service(), reason })
    };
    let came = |other| {
        let mut came = opened(relayed());
        if let Net::ConnectionOpened { peer, .. } = &mut came {
            *peer = other;
        }
        Event::from(came)
    };
    let crowd = (0..1000).flat_map(|_| {
        let stranger = PeerId::random();
        [came(stranger), refused(stranger)]
    });
    let lines = read(&mut said, crowd, now);
    assert!(lines.len() < 100, "{}", lines.len());
    assert!(lines.iter().any(|line| line.contains("one of many")), "a crowd is told at once");
    let lines = read(&mut said, [came(peer()), refused(peer())], now);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let left_out = said.left_out(now + Duration::from_secs(60)).unwrap();
    assert!(left_out.contains("were left out"), "{left_out}");
}

/// What an operator reads of these, one after the other.
fn read(said: &mut Said, events: impl IntoIterator<Item = Event>, now: Instant) -> Vec<String> {
    let said = events.into_iter().filter_map(|event| sentence(&event, said, now));
    said.filter(|(level, _)| *level != Level::Debug).map(|(_, words)| words).collect()
}

#[test]
fn a_peer_that_becomes_direct_goes_back_and_leaves_is_told_in_four_lines() {
    let steps = [
        opened(relayed()),
        opened(Path::Direct),
        succeeded(),
        closed(Path::Direct),
        opened(Path::Direct),
        closed(relayed()),
        closed(Path::Direct),
    ];
    let lines = read(&mut Said::default(), steps.map(Event::from), Instant::now());
    assert_eq!(
        lines,
        [
            "12D3…c6iDEp is connected through relay 12D3…x6nXTN",
            "12D3…c6iDEp is direct after 6 ms over TCP (was relayed)",
            "12D3…c6iDEp is relayed again: closed by the peer",
            "12D3…c6iDEp is gone: closed by the peer",
        ]
    );
}

#[test]
fn what_failed_for_a_while_is_said_to_be_over() {
    let (mut said, start) = (Said::default(), Instant::now());
    let cause = || "no answer".to_owned();
    let failed = |failures| Net::ReservationFailed { relay: relay(), cause: cause(), failures }.into();
    assert_eq!(read(&mut said, [failed(1), failed(2), failed(3)], start).len(), 1);
    let later = start + Duration::from_secs(180);
    let lines = read(&mut said, [held().into(), held().into()], later);
    assert_eq!(lines, ["peers reach this node through relay 12D3…x6nXTN again, after 3 min"]);
}

#[test]
fn a_relay_that_hangs_is_told_and_one_whose_place_is_lost_not_twice() {
    let (mut said, now) = (Said::default(), Instant::now());
    let down = || Event::from(health(Health::Down));
    let lines = read(&mut said, [down(), down(), health(Health::Healthy).into()], now);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1], "relay 12D3…x6nXTN answers again, after 0 ms");
    let lost = Net::ReservationLost { relay: relay(), cause: "closed".to_owned() };
    let lines = read(&mut said, [lost.into(), down()], now);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn a_forward_says_where_the_service_is_once_its_peer_is_there() {
    let (mut said, now) = (Said::default(), Instant::now());
    let listening = || {
        let (service, local) = (service(), "127.0.0.1:18000".to_owned());
        GatewayEvent::ForwardListening { peer: peer(), service, local }.into()
    };
    let unreachable = Net::PeerUnreachable {
        peer: peer(),
        reason: OpenError::NoAddress { peer: peer() },
        failures: 1,
        retry_in_ms: 500,
    };
    read(&mut said, [listening(), unreachable.into()], now);
    let failed = GatewayEvent::ForwardFailed {
        peer: peer(),
        service: service(),
        reason: Failure::Other("no stream within 8 s".to_owned()),
    };
    let lines = read(&mut said, [failed.into()], now);
    let why = "a connection to `web` of 12D3…c6iDEp came to nothing: for 0 ms now it is not reached";
    assert_eq!(lines, [why], "and the cause is not said twice");
    let lines = read(&mut said, [opened(Path::Direct).into(), listening()], now);
    assert_eq!(
        lines,
        [
            "12D3…c6iDEp is connected directly over TCP (was not reached for 0 ms); ready: `web` is at 127.0.0.1:18000",
            "ready: `web` is at 127.0.0.1:18000"
        ]
    );
}

#[test]
fn a_stream_that_is_refused_or_a_last_attempt_is_not_told_twice() {
    let reason = || "no answer".to_owned();
    let dial =
        SessionEvent::DialFailed { peer: peer(), reason: Failure::Other(reason()), retry_in_ms: None };
    let handshake = SessionEvent::HandshakeFailed { peer: peer(), reason: reason(), last: true };
    let twice = [stream_refused(Direction::Outbound).into(), dial.into(), handshake.into()];
    assert!(read(&mut Said::default(), twice, Instant::now()).is_empty());
}

#[test]
fn two_lines_of_a_forwarded_connection_are_for_who_looks_into_something() {
    let stream =
        || [stream_opened(Direction::Outbound).into(), stream_opened(Direction::Inbound).into()];
    assert!(read(&mut Said::default(), stream(), Instant::now()).is_empty());
}

#[test]
fn what_ends_because_the_node_does_is_no_failure() {
    let (mut said, now) = (Said::default(), Instant::now());
    read(&mut said, [held().into(), opened(relayed()).into()], now);
    said.stops();
    let lost = Net::ReservationLost { relay: relay(), cause: "shutdown".to_owned() };
    let lines = read(&mut said, [closed(relayed()).into(), lost.into(), Net::Stopped {}.into()], now);
    assert_eq!(lines, ["stopped"]);
}

#[test]
fn whoever_only_looks_whether_this_node_is_there_is_no_line_and_whoever_uses_it_is_one() {
    let (mut said, now) = (Said::default(), Instant::now());
    let mut came = opened(Path::Direct);
    if let Net::ConnectionOpened { direction, .. } = &mut came {
        *direction = Direction::Inbound;
    }
    let lines = read(&mut said, [came.clone().into(), closed(Path::Direct).into()], now);
    assert!(lines.is_empty(), "{lines:?}");
    let stream = || Event::from(stream_opened(Direction::Inbound));
    let lines = read(&mut said, [came.into(), stream(), stream(), closed(Path::Direct).into()], now);
    let told = ["12D3…c6iDEp uses `web`, direct", "12D3…c6iDEp is gone: closed by the peer"];
    assert_eq!(lines, told);
}

/// Told by a relay to which a hundred nodes keep a link: they renew their places, a home's line is renewed at night, some
/// of them meet, and scanners come by.
fn events_of_second(second: u64, peers: &[PeerId]) -> Vec<Net> {
    let mut events = vec![traffic()];
    let place = |every: u64| (second % every < 100).then(|| peers[(second % every) as usize]);
    if let Some(peer) = place(1800) {
        events.push(Net::ReservationAccepted { peer, renewed: second >= 1800 });
    }
    if let Some(peer) = place(6 * 3600).filter(|_| second > 3600) {
        events.push(Net::ReservationEnded { peer });
        events.push(Net::ReservationAccepted { peer, renewed: false });
    }
    if second.is_multiple_of(60) {
        events.push(refused(Asked::Connection, Some(LimitOwner::Ranges)));
        events.push(Net::CircuitOpened { source: peer(), destination: relay() });
        events.push(circuit_closed());
    }
    if second.is_multiple_of(600) {
        events.push(refused(Asked::DialBack, Some(LimitOwner::Peer)));
    }
    events
}

#[test]
fn a_day_of_an_idle_relay_with_a_hundred_nodes_is_less_than_two_hundred_lines() {
    let peers: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    let (mut said, start) = (Said::default(), Instant::now());
    let mut lines = Vec::new();
    for second in 0..24 * 3600 {
        let now = start + Duration::from_secs(second);
        lines.extend(read(
            &mut said,
            events_of_second(second, &peers).into_iter().map(Event::from),
            now,
        ));
    }
    assert!(lines.len() < 200, "{} lines", lines.len());
    let hourly =
        lines.iter().filter(|line| line.starts_with("100 peers can be reached through this relay"));
    assert!(hourly.count() >= 20, "{lines:#?}");
}
