//! The demo on a terminal: a live timeline, then the table.

use std::io::{self, IsTerminal as _, Write as _};

use super::{
    stage::{Actor, Seen},
    story::Story,
};

pub(super) struct Show {
    json: bool,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

impl Show {
    pub(super) fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    pub(super) fn title(&self) {
        self.line(&format!(
            "{}\n{}\n",
            self.paint(BOLD, "Two private peers and a relay, three processes on this machine"),
            self.paint(DIM, "      time  who     what happened")
        ));
    }

    /// One line of the timeline, for what matters to a reader.
    pub(super) fn event(&self, seen: &Seen) {
        let Some(text) = told(seen) else { return };
        let time = format!("{:>8.1} ms", seen.at.as_secs_f64() * 1000.0);
        let colour = match seen.actor {
            Actor::Relay => "33",
            Actor::Server => "36",
            Actor::Client => "35",
        };
        let who = self.paint(colour, &format!("{:<6}", seen.actor));
        self.line(&format!("{}  {who}  {text}", self.paint(DIM, &time)));
    }

    pub(super) fn verdict(&self, story: &Story) -> anyhow::Result<()> {
        if self.json {
            return crate::print_line(&story.to_json().to_string());
        }
        self.line(&format!("\n{}", self.paint(BOLD, "Result")));
        let (load_bytes, load_took) = story.load();
        let rate = load_bytes as f64 / (1 << 20) as f64 / load_took.as_secs_f64().max(0.001);
        for (name, value) in [
            (
                "time to first session",
                format!("{} ms after the circuit", story.time_to_session().as_millis()),
            ),
            ("time to direct", format!("{} ms", story.time_to_direct().as_millis())),
            ("gap of the move", format!("{:.1} ms in the running session", story.gap_ms())),
            ("load", format!("{} in {} ms, {rate:.1} MiB/s", bytes(load_bytes), load_took.as_millis())),
            ("sent directly", bytes(story.stream_bytes("sent_direct_bytes"))),
            ("sent through the relay", bytes(story.stream_bytes("sent_relayed_bytes"))),
            ("carried by the relay", format!("{} in all, in and out", bytes(story.relay_bytes()))),
        ] {
            self.line(&format!("  {name:<24}{value}"));
        }
        self.line(&format!("\n{}", self.paint(BOLD, "Claims, each measured")));
        for claim in story.claims() {
            let mark = if claim.holds { self.paint(GREEN, "✓") } else { self.paint(RED, "✗") };
            self.line(&format!("  {mark} {:<42}{}", claim.text, self.paint(DIM, &claim.measured)));
        }
        self.line("");
        Ok(())
    }

    /// The story as far as it went, for machines; people have seen it.
    pub(super) fn broken_off(&self, story: &Story) -> anyhow::Result<()> {
        match self.json {
            true => crate::print_line(&story.to_json().to_string()),
            false => Ok(()),
        }
    }

    fn line(&self, text: &str) {
        if !self.json {
            // A reader that went away has seen enough; the exit code tells the rest.
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn told(seen: &Seen) -> Option<String> {
    let peer = short(seen.text("peer"));
    let text = match seen.name() {
        "listening" => format!("listens on {}", seen.text("address")),
        "candidate_found" => format!("is seen from outside as {}", seen.text("address")),
        "reservation_held" => {
            let limit = match seen.number("circuit_bytes_max") {
                0 => "without a limit".to_owned(),
                limit => format!("up to {}", bytes(limit)),
            };
            format!("holds a reservation: reachable through the relay, {limit} a circuit")
        }
        "circuit_opened" => {
            format!("introduces {} to {}", short(seen.text("source")), short(seen.text("destination")))
        }
        "circuit_closed" => "has its circuit back: nobody uses it any more".to_owned(),
        "connection_opened" if seen.text("path") == "relayed" => {
            format!("connects to {peer} through the relay")
        }
        "connection_opened" if seen.actor == Actor::Client && seen.text("direction") == "outbound" => {
            return None;
        }
        "session_ready" => format!(
            "Version, Verack, Ready with {peer}: {} session, protocol {}",
            seen.text("path"),
            seen.number("protocol_version")
        ),
        "upgrade_succeeded" => format!(
            "punched through: {peer} is direct over {} after {} ms, attempt {}",
            seen.text("transport"),
            seen.number("took_ms"),
            seen.number("attempts")
        ),
        "stream_moved" => format!(
            "the session moves from the {} to the {} path, gap {:.1} ms",
            seen.text("from"),
            seen.text("to"),
            seen.event.get("gap_ms").and_then(serde_json::Value::as_f64).unwrap_or_default()
        ),
        "upgrade_failed" => format!("could not punch through to {peer}: {}", seen.text("reason")),
        "load_done" => format!(
            "{} {} on the {} path in {} ms, SHA-256 {}",
            if seen.actor == Actor::Client { "sent" } else { "received" },
            bytes(seen.number("bytes")),
            seen.text("path"),
            seen.number("ms"),
            seen.text("sha256").get(..12).unwrap_or_default()
        ),
        "dial_failed" | "handshake_failed" => format!("failed: {}", seen.text("reason")),
        "stopped" => "stopped".to_owned(),
        _ => return None,
    };
    Some(text)
}

/// The end of a peer id: all of ours begin alike.
fn short(peer: &str) -> String {
    match peer.len().checked_sub(6).and_then(|from| peer.get(from..)) {
        Some(end) => format!("…{end}"),
        None => peer.to_owned(),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / (1 << 20) as f64),
        _ => format!("{:.1} GiB", count as f64 / (1 << 30) as f64),
    }
}
