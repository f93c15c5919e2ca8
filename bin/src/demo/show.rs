//! The demo on a terminal: a live timeline, then what was measured. All of it fits 80 columns and 24 lines.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use super::{
    stage::{Actor, Seen},
    story::{Act, Scene, Story},
};
use crate::rehearsal::Cue;

pub(super) struct Show {
    /// What people read; nothing if machines do.
    out: Box<dyn io::Write + Send>,
    json: bool,
    /// Lines can be rewritten.
    terminal: bool,
    colour: bool,
    /// A line on the terminal that the next one replaces.
    passing: bool,
    /// What was told already of what both ends must have seen.
    told: Vec<Scene>,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// Columns of a line that no terminal wraps.
const COLUMNS: usize = 79;

/// Columns before the text of a line of the timeline.
const MARGIN: usize = 18;

impl Show {
    pub(super) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal() && !json;
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        let out: Box<dyn io::Write + Send> = match json {
            true => Box::new(io::sink()),
            false => Box::new(io::stdout()),
        };
        Self { json, terminal, colour, ..Self::to(out) }
    }

    /// Lines in order, without colours.
    pub(super) fn to(out: Box<dyn io::Write + Send>) -> Self {
        let told = Vec::new();
        Self { out, json: false, terminal: false, colour: false, passing: false, told }
    }

    /// The same on a terminal.
    #[cfg(test)]
    pub(super) fn on_terminal(self) -> Self {
        Self { terminal: true, colour: true, ..self }
    }

    pub(super) fn title(&mut self) {
        self.line(BOLD, "Two private peers and a relay: three processes on this machine");
    }

    /// What matters to a reader of an event that is in the story already.
    pub(super) fn event(&mut self, seen: &Seen, story: &Story) {
        if seen.is(Actor::Server, "stream_traffic") {
            return self.progress(seen);
        }
        if let Some(text) = told(seen, story) {
            self.entry(seen.at, &seen.actor.to_string(), &text);
        }
        for act in Act::MOVED {
            let scene = Scene::Moved(act);
            if let Some(moved) = story.moved(act).filter(|_| !self.told.contains(&scene)) {
                self.told.push(scene);
                let to = match act {
                    Act::Second => "moves to the direct path",
                    Act::Third => "is back on the relay",
                    _ => "moves to the direct path again",
                };
                let after = moved.after.as_millis();
                self.entry(seen.at, "both", &format!("the stream {to}, {after} ms later"));
            }
        }
    }

    pub(super) fn verdict(&mut self, story: &Story) -> anyhow::Result<()> {
        if self.json {
            return crate::print_line(&story.to_json().to_string());
        }
        self.table(story);
        self.line(BOLD, "Claims, each checked by the counters of all three");
        for claim in story.claims() {
            let (colour, mark) = if claim.holds { (GREEN, "✓") } else { (RED, "✗") };
            let mark = self.paint(colour, mark);
            let measured = self.paint(DIM, &claim.measured);
            self.put(&format!("  {mark} {:<36}{measured}", claim.text));
        }
        let relay = "punchline relay --listen /ip4/<your IP>/tcp/4001";
        self.line(BOLD, &format!("Next: {relay}, punchline expose --help"));
        Ok(())
    }

    fn table(&mut self, story: &Story) {
        let header = format!(
            "{:<34}{:>11}{:>11}{:>20}",
            "The stream's moves under load", "client gap", "server gap", "carried after it"
        );
        self.line(BOLD, &header);
        let moves = [
            (Act::Second, "from the relay to the direct path"),
            (Act::Third, "back, its connection closed"),
            (Act::Fourth, "to the direct path again"),
        ];
        for (act, what) in moves {
            let Some(moved) = story.moved(act) else { continue };
            let gap = |ms: f64| format!("{ms:.1} ms");
            let (client, server) = (gap(moved.client_gap_ms), gap(moved.server_gap_ms));
            let carried = bytes(story.carried(act));
            self.put(&format!("{what:<34}{client:>11}{server:>11}{carried:>20}"));
        }
    }

    /// The story as far as it went, for machines; people have seen it.
    pub(super) fn broken_off(&mut self, story: &Story) -> anyhow::Result<()> {
        self.clear();
        match self.json {
            true => crate::print_line(&story.to_json().to_string()),
            false => Ok(()),
        }
    }

    /// A line of the timeline.
    fn entry(&mut self, at: Duration, who: &str, text: &str) {
        let colour = match who {
            "relay" => "33",
            "server" => "36",
            "client" => "35",
            _ => BOLD,
        };
        let time = self.paint(DIM, &format!("{:>6.2} s", at.as_secs_f64()));
        let who = self.paint(colour, &format!("{who:<6}"));
        let text = cut(text, COLUMNS - MARGIN);
        self.put(&format!("{time}  {who}  {text}"));
    }

    /// How far the load is, on a line that the next one replaces.
    fn progress(&mut self, seen: &Seen) {
        if !self.terminal {
            return;
        }
        let text = format!(
            "{:>6.2} s  load    received {} through the relay, {} directly",
            seen.at.as_secs_f64(),
            bytes(seen.number("received_relayed_bytes")),
            bytes(seen.number("received_direct_bytes"))
        );
        self.clear();
        let text = self.paint(DIM, &cut(&text, COLUMNS));
        // As for every line here: a reader that went away has seen enough.
        let _ = write!(self.out, "{text}").and_then(|()| self.out.flush());
        self.passing = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.passing) {
            let _ = write!(self.out, "\r\x1b[2K");
        }
    }

    fn line(&mut self, code: &str, text: &str) {
        let text = self.paint(code, text);
        self.put(&text);
    }

    fn put(&mut self, text: &str) {
        self.clear();
        // A reader that went away has seen enough; the exit code tells the rest.
        let _ = writeln!(self.out, "{text}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// An event in words, if a reader wants it. What both ends tell is told when both have.
fn told(seen: &Seen, story: &Story) -> Option<String> {
    let first = |name| story.first(seen.actor, name).is_some_and(|first| first.at == seen.at);
    let text = match (seen.actor, seen.name()) {
        (Actor::Relay, "listening") if first("listening") => {
            format!("listens on {}", seen.text("address"))
        }
        (Actor::Server, "reservation_held") if first("reservation_held") => {
            "holds a reservation: it is reachable through the relay".to_owned()
        }
        (Actor::Client, "page_listening") => {
            format!("is to be seen at http://{}/", seen.text("address"))
        }
        (Actor::Client, "session_ready") => {
            format!("Version, Verack, Ready {}; a load begins", way(seen.text("path")))
        }
        (Actor::Demo, _) if seen.is_cue(Cue::AllowUpgrades) => {
            let act = if story.has(Scene::Moved(Act::Third)) { Act::Third } else { Act::First };
            format!("{} went through the relay: the two may punch now", bytes(story.carried(act)))
        }
        (Actor::Demo, _) if seen.is_cue(Cue::CloseDirect) => {
            "has the client close the direct connection, in mid-load".to_owned()
        }
        // Told to stop, they lose what they had.
        (Actor::Server | Actor::Client, _) if story.is_over() => return None,
        (_, "upgrade_failed") => format!("could not punch: {}", seen.text("reason")),
        (_, "dial_failed" | "handshake_failed") => format!("failed: {}", seen.text("reason")),
        (_, "reservation_lost") => format!("lost its reservation: {}", seen.text("cause")),
        _ => return None,
    };
    Some(text)
}

/// At most so many columns of a line.
fn cut(text: &str, columns: usize) -> String {
    match text.chars().count() <= columns {
        true => text.to_owned(),
        false => text.chars().take(columns - 1).chain(['…']).collect(),
    }
}

fn way(path: &str) -> &'static str {
    if path == "direct" { "directly" } else { "through the relay" }
}

pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / (1 << 20) as f64),
        _ => format!("{:.1} GiB", count as f64 / (1 << 30) as f64),
    }
}
