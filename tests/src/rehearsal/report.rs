//! What came of a rehearsal, as it is kept in `logs/`: a page for people, and the events of each machine.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::run::{Rehearsal, after};
use super::sanitise::Sanitiser;
use super::{Machine, Topology};
use crate::process::Event;

/// What ran, and on what.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The commit, and whether there were changes since.
    pub commit: String,
    /// How to have the same again.
    pub command: String,
    /// The machine and the build, in words.
    pub machine: String,
}

/// Where the session was in the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// On a direct path.
    Direct,
    /// On a relay.
    Relayed,
    /// A step did not show what the runbook says.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Failed => "failed",
        })
    }
}

impl Rehearsal {
    /// Where the session was in the end; failed, if a step was.
    pub fn verdict(&self) -> Verdict {
        let path = |said: &Event| match said.name() {
            "session_ready" => said.text("path").map(str::to_owned),
            "stream_moved" => said.text("to").map(str::to_owned),
            _ => None,
        };
        let last = self.of(Machine::Client).iter().rev().find_map(path);
        match last.as_deref() {
            _ if self.failure.is_some() => Verdict::Failed,
            Some("direct") => Verdict::Direct,
            Some("relayed") => Verdict::Relayed,
            _ => Verdict::Failed,
        }
    }

    /// Writes the page and a folder of events, without addresses, into `folder`; returns the page's path.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn write(&self, origin: &Origin, folder: &Path) -> io::Result<PathBuf> {
        let day = Timestamp::now().strftime("%Y-%m-%d");
        let name = format!("{day}-{}-{}", self.topology, self.verdict());
        let events = folder.join(&name);
        fs::create_dir_all(&events)?;
        let sanitiser = self.sanitiser();
        for (machine, said) in self.events.iter().filter(|(_, said)| !said.is_empty()) {
            let lines: String = said.iter().map(|said| format!("{said}\n")).collect();
            fs::write(events.join(format!("{machine}.jsonl")), sanitiser.clean(&lines))?;
        }
        let page = folder.join(format!("{name}.md"));
        fs::write(&page, sanitiser.clean(&self.page(origin, &name)))?;
        Ok(page)
    }

    fn sanitiser(&self) -> Sanitiser {
        let noted = self.variables.iter().filter(|(name, _)| name.ends_with("_ID"));
        let mut peers: Vec<_> = noted.map(|(name, id)| (id.clone(), format!("<{name}>"))).collect();
        let ready = self.of(Machine::Server).iter().find(|said| said.name() == "session_ready");
        if let Some(client) = ready.and_then(|said| said.text("peer")) {
            peers.push((client.to_owned(), "<CLIENT_ID>".to_owned()));
        }
        Sanitiser::new(&self.addresses, peers)
    }

    fn page(&self, origin: &Origin, name: &str) -> String {
        let Origin { commit, command, machine } = origin;
        let (topology, verdict) = (self.topology, self.verdict());
        let mut page = format!(
            "# Rehearsal of `{topology}`: {verdict}\n\n`{command}` at commit {commit}.\n\n\
             Machine: {machine}. Each machine of the lab did what [the runbook](../design/runbook.md) says for this topology.\n\
             Its events are in [the folder beside this page]({name}/). Names in angle brackets stand for addresses and ids.\n\n\
             ## Topology\n\n{}\n",
            described(topology),
        );
        let why = match &self.failure {
            None => "Every step showed what the runbook says.",
            Some(failure) => failure,
        };
        let parts = [
            ("Verdict", format!("**{verdict}**. {why}\n")),
            ("Timings", self.timings()),
            ("Counters", self.counters()),
            ("Steps", self.steps()),
        ];
        for (heading, text) in parts {
            let _ = write!(page, "\n## {heading}\n\n{text}");
        }
        page
    }

    fn timings(&self) -> String {
        let (server, client) = (self.of(Machine::Server), self.of(Machine::Client));
        let path = |path: &'static str| {
            move |said: &Event| said.name() == "connection_opened" && said.has("path", path)
        };
        let named = |name: &'static str| move |said: &Event| said.name() == name;
        let relayed = client.iter().position(path("relayed")).map_or(client, |first| &client[first..]);
        let peer = relayed.first().and_then(|said| said.text("peer"));
        let direct = |said: &Event| path("direct")(said) && said.text("peer") == peer;
        let rows = [
            (
                "server, from its first event to `reservation_held`",
                span(server, named("reservation_held")),
            ),
            ("client, from its first event to `session_ready`", span(client, named("session_ready"))),
            ("client, from its relayed connection to the first direct one", span(relayed, direct)),
            (
                "client, from its relayed connection to `upgrade_failed`",
                span(relayed, named("upgrade_failed")),
            ),
        ];
        let mut table = "| what | took |\n|---|---|\n".to_owned();
        for (what, took) in rows {
            if let Some(took) = took {
                let _ = writeln!(table, "| {what} | {} |", milliseconds(took));
            }
        }
        for (machine, said) in [(Machine::Server, server), (Machine::Client, client)] {
            for moved in said.iter().filter(|said| said.name() == "stream_moved") {
                let text = |field| moved.text(field).unwrap_or("?");
                let gap = moved.fields().get("gap_ms").map(ToString::to_string).unwrap_or_default();
                let cause = moved.text("cause").map(|cause| format!(" ({cause})")).unwrap_or_default();
                let (from, to) = (text("from"), text("to"));
                let _ = writeln!(
                    table,
                    "| {machine}, gap of the move from {from} to {to}{cause} | {gap} ms |"
                );
            }
        }
        table
    }

    fn counters(&self) -> String {
        let mut text = "| bytes of the session's stream | sent directly | received directly | sent by relay | received by relay |\n\
             |---|---|---|---|---|\n"
            .to_owned();
        for machine in [Machine::Server, Machine::Client] {
            for closed in self.of(machine).iter().filter(|said| said.name() == "stream_closed") {
                let count = |field| closed.number(field).map_or_else(|| "?".to_owned(), grouped);
                let fields = [
                    "sent_direct_bytes",
                    "received_direct_bytes",
                    "sent_relayed_bytes",
                    "received_relayed_bytes",
                ];
                let _ = writeln!(text, "| {machine} | {} |", fields.map(count).join(" | "));
            }
        }
        text.push('\n');
        for relay in [Machine::Relay, Machine::Relay2] {
            for closed in self.of(relay).iter().filter(|said| said.name() == "circuit_closed") {
                let bytes = closed.number("bytes").map_or_else(|| "?".to_owned(), grouped);
                let _ = writeln!(text, "- A circuit over {relay} carried {bytes} bytes.");
            }
        }
        if let Some(last) = self.done.last() {
            let _ = writeln!(text, "- {}", links(last.relay_link_bytes, last.direct_bytes));
        }
        text
    }

    fn steps(&self) -> String {
        let mut text = String::new();
        for (done, number) in self.done.iter().zip(1..) {
            let step = &done.step;
            let _ = write!(
                text,
                "{number}. {} (runbook, line {}), on {}:\n\n   ```sh\n",
                step.section, step.line, step.machine
            );
            for line in step.script.lines() {
                let _ = writeln!(text, "   {line}");
            }
            let seen =
                done.seen.iter().map(|(what, took)| format!("{what} after {}", milliseconds(*took)));
            let seen = seen.collect::<Vec<_>>().join(", ");
            let seen = if seen.is_empty() { String::new() } else { format!("Seen: {seen}. ") };
            let links = links(done.relay_link_bytes, done.direct_bytes);
            let _ = write!(text, "   ```\n\n   {seen}{links}\n\n");
        }
        text.trim_end().to_owned() + "\n"
    }

    fn of(&self, machine: Machine) -> &[Event] {
        self.events.get(&machine).map_or(&[], Vec::as_slice)
    }
}

/// From the first of `events` to the first that `is_end`.
fn span(events: &[Event], is_end: impl Fn(&Event) -> bool) -> Option<Duration> {
    let start = events.first()?.time().ok()?;
    after(events.iter().find(|said| is_end(said))?, start).ok()
}

fn milliseconds(took: Duration) -> String {
    format!("{} ms", grouped(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)))
}

fn links(relay: u64, direct: Option<u64>) -> String {
    let direct =
        direct.map_or(String::new(), |bytes| format!("; {} between the routers", grouped(bytes)));
    format!("Up to here {} bytes at the relay's link{direct}.", grouped(relay))
}

/// A number as people write it: 67,108,864.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn described(topology: Topology) -> &'static str {
    match topology {
        Topology::TwoNats => {
            "A relay on the internet; server <SERVER_IP> and client <CLIENT_IP>, each behind a port-restricted NAT of its\n\
             own: <SERVER_HOME_IP> and <CLIENT_HOME_IP>. TCP and QUIC."
        }
        Topology::MappedPort => {
            "A relay on the internet; server <SERVER_IP> and client <CLIENT_IP>, each behind a symmetric NAT of its own:\n\
             <SERVER_HOME_IP> and <CLIENT_HOME_IP>. The server's router runs `miniupnpd` and speaks PCP. TCP and QUIC."
        }
        Topology::Symmetric => {
            "A relay on the internet; server <SERVER_IP> and client <CLIENT_IP>, each behind a symmetric NAT of its own:\n\
             <SERVER_HOME_IP> and <CLIENT_HOME_IP>. TCP and QUIC."
        }
        Topology::RelayKilled => {
            "Two relays on the internet; server <SERVER_IP> and client <CLIENT_IP>, each behind a symmetric NAT of its own:\n\
             <SERVER_HOME_IP> and <CLIENT_HOME_IP>. The relays over TCP."
        }
        Topology::AddressChanged => {
            "A relay on the internet; server <SERVER_IP> and client <CLIENT_IP>, each behind a port-restricted NAT of its\n\
             own: <SERVER_HOME_IP> and <CLIENT_HOME_IP>. The client's address becomes <NEW_CLIENT_IP>. TCP and QUIC."
        }
        Topology::Lan => {
            "A relay on the internet; server <SERVER_IP> and client <CLIENT_IP> in one network, behind one port-restricted\n\
             NAT that sends back nothing of what its own hosts send to <HOME_IP>. TCP and QUIC; the relay over TCP for the\n\
             client."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (67_108_864, "67,108,864")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
