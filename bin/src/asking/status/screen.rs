//! A node's status for a person: one screen.

use std::fmt::Write as _;

use crate::control::proto::{Peer, Relay, Status};

/// The text, with the end of its last line.
pub(super) fn of(status: &Status) -> String {
    let mut text = String::new();
    let Status { peer, version, command, uptime_seconds, .. } = status;
    let _ = writeln!(text, "{peer}: punchline {version} {command}, up {}", span(*uptime_seconds));
    for (nat, family) in [(&status.nat, "IPv4"), (&status.nat_v6, "IPv6")] {
        if !nat.is_empty() {
            let _ = writeln!(text, "  {family}: {nat}");
        }
    }
    for candidate in &status.candidates {
        let how = match candidate.source.as_str() {
            "router" => "forwarded by the router",
            "confirmed" => "a relay reached it",
            "relay" => "as a relay sees it",
            _ => "of this host",
        };
        let _ = writeln!(text, "  {} ({how})", candidate.address);
    }
    section(&mut text, "relays", status.relays.iter().map(relay));
    section(&mut text, "peers", status.peers.iter().map(peer_line));
    text
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
    facts.extend(relay.last_error.as_ref().map(|error| format!("last error: {error}")));
    format!("{}  {}", relay.relay, facts.join(", "))
}

fn peer_line(peer: &Peer) -> String {
    let mut facts = vec![format!("{} over {}", peer.path, peer.transport)];
    facts.extend(peer.round_trip_ms.map(round_trip));
    facts.push(match peer.streams {
        0 => "no stream".to_owned(),
        1 => "1 stream".to_owned(),
        streams => format!("{streams} streams"),
    });
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
    let mut line = format!("{}  {}", peer.peer, facts.join(", "));
    if let Some(why) = &peer.why_relayed {
        let _ = write!(line, "\n    why relayed: {why}");
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
    fn times_and_sizes_are_said_in_units_that_people_use() {
        let spans = [0.4, 59.9, 60.0, 3700.0, 200_000.0].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "1 h 1 min", "2 d 7 h"]);
        let sizes = [0, 1023, 1024, 5 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB"]);
    }
}
