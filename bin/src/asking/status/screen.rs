//! A node's status for a person: one screen.

use std::fmt::Write as _;

use crate::{
    control::proto::{
        External, Forward, Limit, NamedPeer, Peer, Relay, RelayName, Relaying, Service, Status, Wait,
    },
    external,
    plain::{one_line, plain},
};

/// A limit is shown once it is fuller than this, in percent.
const FULL_PERCENT: u64 = 80;

/// The text, with the end of its last line.
pub(super) fn of(status: &Status) -> String {
    let mut text = String::new();
    let Status { peer, version, command, uptime_seconds, commit, .. } = status;
    let commit = commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
    let _ =
        writeln!(text, "{peer}: punchline {version}{commit} {command}, up {}", span(*uptime_seconds));
    for (nat, family) in [(&status.nat, "IPv4"), (&status.nat_v6, "IPv6")] {
        if !nat.is_empty() {
            let _ = writeln!(text, "  {family}: {nat}");
        }
    }
    for candidate in &status.candidates {
        let stated = status.external.iter().find(|one| one.address == candidate.address);
        let how = match candidate.source.as_str() {
            "operator" => match stated.map(|one| one.state.as_str()) {
                Some("confirmed") => "by --external, and a relay reached it",
                Some("unanswered") => "by --external, but nobody answers there",
                _ => "by --external, and no relay tried it yet",
            },
            "router" => "forwarded by the router",
            "confirmed" => "a relay reached it",
            "relay" => "as a relay sees it",
            _ => "of this host",
        };
        let _ = writeln!(text, "  {} ({how})", candidate.address);
        if let Some(remedy) = stated.and_then(remedy) {
            let _ = writeln!(text, "    {remedy}");
        }
    }
    match &status.relaying {
        Some(relaying) => relay_screen(&mut text, status, relaying),
        None => {
            let names = status.relay_names.iter().filter(|name| is_worth_a_line(name));
            section(&mut text, "relays", status.relays.iter().map(relay).chain(names.map(relay_name)));
            section(&mut text, "peers", status.peers.iter().map(peer_line));
            if !status.waits.is_empty() {
                section(&mut text, "waits for", status.waits.iter().map(wait));
            }
            if !status.services.is_empty() {
                section(&mut text, "services", status.services.iter().map(service));
            }
            if !status.forwards.is_empty() {
                section(&mut text, "forwards", status.forwards.iter().map(forward));
            }
        }
    }
    if status.dht.is_some() || status.mainline.is_some() {
        section(&mut text, "finds peers in", super::dht::lines(status).into_iter());
    }
    #[cfg(feature = "kad")]
    if let Some(verification) = &status.verification {
        let _ = writeln!(text, "{}", one_line(&crate::verify::screen::line(verification)));
    }
    let full = status.limits.iter().filter(|limit| is_full(limit));
    let full: Vec<_> = full.map(limit_line).collect();
    if !full.is_empty() {
        section(&mut text, "limits", full.into_iter());
    }
    plain(&text)
}

/// What to look at where nobody answers.
fn remedy(one: &External) -> Option<String> {
    if one.state != "unanswered" {
        return None;
    }
    let listener = one.listener.as_ref().and_then(|listener| listener.parse().ok());
    Some(external::remedy(&one.address.parse().ok()?, listener.as_ref()))
}

/// What a relay does for others.
fn relay_screen(text: &mut String, status: &Status, relaying: &Relaying) {
    let Relaying { external, stun, connections, reservations, kept, .. } = relaying;
    let Relaying { circuits, circuits_waiting, received_bytes, sent_bytes, .. } = relaying;
    section(text, "listens", status.listening.iter().cloned());
    section(text, "reached at", external.iter().cloned());
    section(text, "answers STUN", stun.iter().cloned());
    let limit = |what| status.limits.iter().find(|limit: &&Limit| limit.what == what);
    let of = |what| limit(what).map(|limit| format!(" of {}", limit.limit)).unwrap_or_default();
    let also =
        |count: u32, what| if count > 0 { format!(", and {count} {what}") } else { String::new() };
    let load = [
        format!("{connections}{} connections", of("connections")),
        format!("{reservations}{} places held{}", of("reservations"), also(*kept, "kept")),
        format!("{circuits}{} circuits{}", of("circuits"), also(*circuits_waiting, "being set up")),
        format!(
            "{} carried in circuits; received {} and sent {} in all",
            bytes(relaying.forwarded_bytes),
            bytes(*received_bytes),
            bytes(*sent_bytes)
        ),
    ];
    section(text, "load", load.into_iter());
}

fn is_full(limit: &Limit) -> bool {
    u128::from(limit.used) * 100 > u128::from(limit.limit) * u128::from(FULL_PERCENT)
}

fn limit_line(limit: &Limit) -> String {
    let Limit { what, used, limit } = limit;
    match what.strip_suffix("_bytes") {
        Some(what) => format!("{}: {} of {}", what.replace('_', " "), bytes(*used), bytes(*limit)),
        None => format!("{}: {used} of {limit}", what.replace('_', " ")),
    }
}

fn section(text: &mut String, name: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    let none = if lines.peek().is_none() { ": none" } else { "" };
    let _ = writeln!(text, "{name}{none}");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

fn relay(relay: &Relay) -> String {
    let mut facts = vec![match (relay.state.as_str(), relay.reservation_seconds, relay.retry_seconds) {
        ("reserved", Some(lasts), _) => format!("reserved for {}", span(lasts)),
        ("down", _, Some(retry)) => format!("down, tried again in {}", span(retry)),
        (state, ..) => state.to_owned(),
    }];
    if relay.wanted && relay.health != "healthy" {
        facts.push(relay.health.clone());
    }
    facts.extend(relay.transport.clone());
    facts.extend(relay.round_trip_ms.map(round_trip));
    facts.extend(relay.last_error.as_ref().map(|error| format!("last error: {}", one_line(error))));
    format!("{}  {}", called(relay.name.as_deref(), &relay.relay), facts.join(", "))
}

/// Where all is well, its relays say so.
fn is_worth_a_line(name: &RelayName) -> bool {
    name.relays.is_empty() || name.failures > 0
}

fn relay_name(name: &RelayName) -> String {
    let mut facts = vec![match (name.relays.len(), name.failures) {
        (0, 0) => "not resolved yet".to_owned(),
        (0, _) => "not resolved".to_owned(),
        (1, _) => "resolved before, as one relay".to_owned(),
        (relays, _) => format!("resolved before, as {relays} relays"),
    }];
    facts.extend(name.retry_seconds.map(|retry| format!("tried again in {}", span(retry))));
    facts.extend(name.last_error.as_ref().map(|error| format!("last error: {error}")));
    format!("{}  {}", name.name, facts.join(", "))
}

fn wait(wait: &Wait) -> String {
    let Wait { peer, name, waited_seconds, awaits } = wait;
    let awaits: String = awaits.iter().map(|awaited| format!("\n    {}", one_line(awaited))).collect();
    format!("{}  for {}{awaits}", called(name.as_deref(), peer), span(*waited_seconds))
}

/// The peer's name, and of its id what tells it from others.
pub(in crate::asking) fn called(name: Option<&str>, peer: &str) -> String {
    let Some(name) = name else { return peer.to_owned() };
    let end: String = peer.chars().skip(peer.chars().count().saturating_sub(END_CHARS)).collect();
    format!("{name} (…{end})")
}

/// Of an id, when its peer has a name.
const END_CHARS: usize = 6;

/// Users of a service that are named; the others are counted.
const USERS_SHOWN: usize = 8;

fn service(service: &Service) -> String {
    let mut who = Vec::new();
    if service.anybody {
        who.push("every peer".to_owned());
    }
    match (service.allowed_count, service.allowed.first()) {
        (0, _) | (_, None) => {}
        (1, Some(NamedPeer { peer, name })) => who.push(called(name.as_deref(), peer)),
        (count, _) => who.push(format!("{count} peers")),
    }
    if service.tickets {
        who.push("holders of tickets".to_owned());
    }
    let target = service.target.as_ref().map(|target| format!(" at {target}")).unwrap_or_default();
    let mut line = format!("{}{target}  for {}", service.service, who.join(" and "));
    let users = service.users.iter().take(USERS_SHOWN);
    let users = users
        .map(|user| format!("{} {}", called(user.name.as_deref(), &user.peer), streams(user.streams)));
    let mut users: Vec<_> = users.collect();
    if let Some(more @ 1..) = service.users.len().checked_sub(USERS_SHOWN) {
        users.push(format!("and {more} more peers"));
    }
    if !users.is_empty() {
        let _ = write!(line, "\n    used by {}", users.join(", "));
    }
    line
}

fn forward(forward: &Forward) -> String {
    let Forward { peer, name, service, local, state, connections, last_error, .. } = forward;
    let peer = called(name.as_deref(), peer);
    let state = if state == "away" { "not connected" } else { state };
    let connections = match connections {
        0 => "no connection".to_owned(),
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let mut line = format!("{local}  {service} of {peer}, {state}, {connections}");
    if let Some(error) = last_error {
        let _ = write!(line, "\n    last error: {}", one_line(error));
    }
    line
}

fn streams(count: u32) -> String {
    match count {
        0 => "no stream".to_owned(),
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    }
}

fn peer_line(peer: &Peer) -> String {
    let mut facts = vec![format!("{} over {}", peer.path, peer.transport)];
    facts.extend(peer.round_trip_ms.map(round_trip));
    facts.push(streams(peer.streams));
    let moved = [
        ("sent", peer.sent_direct_bytes, peer.sent_relayed_bytes),
        ("received", peer.received_direct_bytes, peer.received_relayed_bytes),
    ];
    for (verb, direct, relayed) in moved {
        match (direct, relayed) {
            (0, 0) => {}
            (direct, 0) => facts.push(format!("{verb} {} directly", bytes(direct))),
            (direct, relayed) => {
                facts.push(format!("{verb} {} directly and {} relayed", bytes(direct), bytes(relayed)));
            }
        }
    }
    let mut line = format!("{}  {}", called(peer.name.as_deref(), &peer.peer), facts.join(", "));
    if let Some(why) = &peer.why_relayed {
        let _ = write!(line, "\n    why relayed: {}", one_line(why));
    }
    if let Some(next) = peer.next_attempt_seconds {
        let _ = write!(line, "\n    tried again in {}", span(next));
    }
    line
}

pub(in crate::asking) fn round_trip(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub(in crate::asking) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" {
                format!("{bytes} bytes")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto;

    #[test]
    fn what_others_wrote_steers_no_terminal_and_begins_no_line() {
        let said = "closed: \u{1b}[2J\u{202e}x\nrelays: all is well".to_owned();
        let relay =
            Relay { relay: "12D3KooWRelay".to_owned(), last_error: Some(said), ..Relay::default() };
        let screen = of(&Status { relays: vec![relay], ..Status::default() });
        assert!(screen.contains("last error: closed:  [2J x relays: all is well\n"), "{screen:?}");
    }

    #[test]
    fn a_relayed_peer_says_why_and_when_it_is_tried_again() {
        let peer = Peer {
            peer: "12D3KooWAlice".to_owned(),
            path: "relayed".to_owned(),
            transport: "tcp".to_owned(),
            round_trip_ms: Some(51.4),
            why_relayed: Some("no hole punch is possible between these NATs".to_owned()),
            next_attempt_seconds: Some(29.6),
            streams: 1,
            sent_relayed_bytes: 5 << 20,
            ..Peer::default()
        };
        let screen = of(&Status { peers: vec![peer], ..Status::default() });
        assert!(screen.ends_with(
            "relays: none\npeers\n  12D3KooWAlice  relayed over tcp, 51 ms, 1 stream, sent 0 bytes directly and 5.0 MiB \
             relayed\n    why relayed: no hole punch is possible between these NATs\n    tried again in 29 s\n"
        ));
    }

    #[test]
    fn a_limit_is_shown_once_it_is_more_than_eighty_percent_full() {
        let limit = |what: &str, used, limit| Limit { what: what.to_owned(), used, limit };
        let limits = vec![
            limit("connections", 80, 100),
            limit("streams_of_peers", 81, 100),
            limit("stream_memory_bytes", 256 << 20, 256 << 20),
            limit("holds", 0, 0),
        ];
        let screen = of(&Status { limits, ..Status::default() });
        let shown = "limits\n  streams of peers: 81 of 100\n  stream memory: 256.0 MiB of 256.0 MiB\n";
        assert!(screen.ends_with(shown), "{screen}");
        assert!(!of(&Status::default()).contains("limits"));
    }

    #[test]
    fn what_the_operator_states_is_shown_with_what_relays_found_and_what_to_look_at() {
        let stated = |state: &str| {
            let address = "/ip4/198.51.100.4/tcp/7000".to_owned();
            let listener = Some("/ip4/192.168.1.7/tcp/4001".to_owned());
            let source = "operator".to_owned();
            let candidates = vec![proto::Candidate { address: address.clone(), source }];
            let external = vec![External { address, state: state.to_owned(), relay: None, listener }];
            of(&Status { candidates, external, ..Status::default() })
        };
        assert!(stated("unchecked").contains("tcp/7000 (by --external, and no relay tried it yet)\n"));
        assert!(stated("confirmed").contains("tcp/7000 (by --external, and a relay reached it)\n"));
        let screen = stated("unanswered");
        assert!(
            screen.contains("tcp/7000 (by --external, but nobody answers there)\n    see that"),
            "{screen}"
        );
        assert!(screen.contains("TCP port 7000 to this host, 192.168.1.7, port 4001"), "{screen}");
    }

    #[test]
    fn a_relay_has_a_screen_of_its_own() {
        let relaying = Relaying {
            external: vec!["/ip4/203.0.113.7/tcp/4001".to_owned()],
            reservations: 2,
            kept: 1,
            circuits: 3,
            forwarded_bytes: 5 << 20,
            ..Relaying::default()
        };
        let limit = Limit { what: "reservations".to_owned(), used: 3, limit: 1024 };
        let status = Status { limits: vec![limit], relaying: Some(relaying), ..Status::default() };
        let screen = of(&status);
        let load = "load\n  0 connections\n  2 of 1024 places held, and 1 kept\n  3 circuits\n  5.0 MiB carried in \
                    circuits; received 0 bytes and sent 0 bytes in all\n";
        assert!(screen.ends_with(load), "{screen}");
        assert!(screen.contains("answers STUN: none\n") && !screen.contains("peers"), "{screen}");
    }

    #[test]
    fn services_and_forwards_say_who_may_and_who_does_by_their_names() {
        let user = |name: &str, streams| proto::User {
            peer: "12D3KooWc6iDEp".to_owned(),
            name: Some(name.to_owned()),
            streams,
        };
        let service = Service {
            service: "web".to_owned(),
            target: Some("127.0.0.1:8000".to_owned()),
            tickets: true,
            allowed: vec![NamedPeer {
                peer: "12D3KooWc6iDEp".to_owned(),
                name: Some("alice".to_owned()),
            }],
            allowed_count: 1,
            users: vec![user("alice", 2)],
            ..Service::default()
        };
        let crowd = (0..10).map(|_| user("bob", 1)).collect();
        let open =
            Service { service: "open".to_owned(), anybody: true, users: crowd, ..Service::default() };
        let forward = Forward {
            peer: "12D3KooWc6iDEp".to_owned(),
            service: "ssh".to_owned(),
            local: "127.0.0.1:2222".to_owned(),
            state: "away".to_owned(),
            last_error: Some("the peer has no such service".to_owned()),
            ..Forward::default()
        };
        let (services, forwards) = (vec![service, open], vec![forward]);
        let screen = of(&Status { services, forwards, ..Status::default() });
        assert!(screen.contains(
            "services\n  web at 127.0.0.1:8000  for alice (…c6iDEp) and holders of tickets\n    used by alice (…c6iDEp) 2 \
             streams\n  open  for every peer\n    used by bob (…c6iDEp) 1 stream, "
        ), "{screen}");
        assert!(screen.ends_with(
            ", and 2 more peers\nforwards\n  127.0.0.1:2222  ssh of 12D3KooWc6iDEp, not connected, no connection\n    last \
             error: the peer has no such service\n"
        ), "{screen}");
    }

    #[test]
    fn times_and_sizes_are_said_in_units_that_people_use() {
        let spans = [0.4, 59.9, 60.0, 3700.0, 200_000.0].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "1 h 1 min", "2 d 7 h"]);
        let sizes = [0, 1023, 1024, 5 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB"]);
    }
}
