//! `punchline why`: the story of a peer, for a person or as JSON.

use std::{fmt::Write as _, io::Write as _};

use tonic::Code;

use super::status::screen::{called, round_trip, span};
use crate::{
    Unusable,
    cli::{self, Asking},
    control::{
        self,
        proto::{ExplainRequest, Finding, Side, Step, Story, Use},
    },
    names::PeerRef,
    plain::{one_line, plain},
    shapes, stop,
};

/// Asks and prints.
///
/// # Errors
/// If no node answers, several do and none was named, or it knows nothing of the peer.
pub(super) async fn run(settings: cli::Why) -> anyhow::Result<()> {
    let story = story(&settings.asking, &settings.peer).await?;
    let text = match settings.json {
        true => super::json("Story", shapes::STORY, &story)?.to_string() + "\n",
        false => told(&story),
    };
    let mut out = std::io::stdout();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

/// # Errors
/// As for [`run`].
pub(super) async fn story(asking: &Asking, peer: &PeerRef) -> anyhow::Result<Story> {
    let asked = async {
        let mut node = control::ask(asking).await?;
        let answer = node.explain(ExplainRequest { peer: peer.to_string() }).await;
        let answer = answer.map_err(|error| match error.code() {
            Code::NotFound | Code::Unimplemented => anyhow::anyhow!("{}", error.message()),
            Code::InvalidArgument => Unusable(error.message().to_owned()).into(),
            _ => super::refused(&error),
        });
        Ok(answer?.into_inner())
    };
    tokio::select! {
        answer = asked => answer,
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    }
}

/// The text, with the end of its last line.
fn told(story: &Story) -> String {
    let mut text = format!("{}: {}\n", called(story.name.as_deref(), &story.peer), now(story));
    let nobody = Side::default();
    here(&mut text, story.here.as_ref().unwrap_or(&nobody));
    there(&mut text, story, story.there.as_ref().unwrap_or(&nobody));
    section(&mut text, "what happened", story.steps.iter().map(step));
    section(&mut text, "services", story.services.iter().map(service));
    if story.findings.is_empty() {
        text.push_str("nothing is in the way\n");
    }
    text.extend(story.findings.iter().map(finding));
    if let Some(next) = story.next_attempt_seconds {
        let _ = writeln!(text, "next attempt: in {}", span(next));
    }
    plain(&text)
}

fn now(story: &Story) -> String {
    let since = story.since_seconds.map(|since| format!(", for {}", span(since)));
    let ping = story.round_trip_ms.map(|ms| format!(", {}", round_trip(ms)));
    format!("{}{}{}", story.now, since.unwrap_or_default(), ping.unwrap_or_default())
}

fn known(nat: &str) -> &str {
    if nat.is_empty() { "not known" } else { nat }
}

fn here(text: &mut String, here: &Side) {
    let _ = writeln!(text, "  NAT here: {}", known(&here.nat));
    if !here.nat_v6.is_empty() {
        let _ = writeln!(text, "  over IPv6: {}", here.nat_v6);
    }
    if !here.public_addresses.is_empty() {
        let _ = writeln!(text, "  seen from outside at {}", here.public_addresses.join(", "));
    }
    if !here.addresses.is_empty() {
        let _ = writeln!(text, "  addresses told to peers: {}", here.addresses.join(", "));
    }
}

/// Nobody misses what the peer is behind where it is reached directly.
fn there(text: &mut String, story: &Story, there: &Side) {
    if story.path == "relayed" || !there.nat.is_empty() {
        let _ = writeln!(text, "  NAT of the peer: {}", known(&there.nat));
    }
    if !there.addresses.is_empty() {
        let _ = writeln!(text, "  its addresses: {}", there.addresses.join(", "));
    }
}

fn section(text: &mut String, name: &str, lines: impl Iterator<Item = String>) {
    for (number, line) in lines.enumerate() {
        let head = if number == 0 { format!("{name}\n") } else { String::new() };
        let _ = writeln!(text, "{head}  {line}");
    }
}

/// How long ago, in a column.
fn ago(seconds: f64, count: u32) -> String {
    let times = if count > 1 { format!("{count} times, ") } else { String::new() };
    format!("{:>12}  {times}", format!("{} ago", span(seconds)))
}

fn step(step: &Step) -> String {
    let mut line = format!("{}{}", ago(step.ago_seconds, step.count), one_line(&step.text));
    for tried in &step.addresses {
        let outcome = tried.outcome.as_ref().map(|outcome| format!(": {}", outcome.replace('_', " ")));
        let _ = write!(line, "\n{:18}{}{}", "", tried.address, outcome.unwrap_or_default());
    }
    line
}

fn service(of: &Use) -> String {
    format!("{}`{}`: {}", ago(of.ago_seconds, of.count), of.service, one_line(&of.text))
}

fn finding(finding: &Finding) -> String {
    let Finding { why, help, .. } = finding;
    format!("why: {}\n  what would help: {}\n", one_line(why), one_line(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto::Tried;

    #[test]
    fn a_story_reads_from_how_it_is_to_what_would_help() {
        let tried = Tried {
            address: "/ip4/198.51.100.7/tcp/35000".to_owned(),
            outcome: Some("timed_out".to_owned()),
        };
        let story = Story {
            peer: "12D3KooWAlice".to_owned(),
            name: Some("alice".to_owned()),
            path: "relayed".to_owned(),
            now: "reached through the relay 12D3KooWRelay, over TCP".to_owned(),
            since_seconds: Some(190.0),
            round_trip_ms: Some(51.4),
            here: Some(Side {
                nat: "one port for each destination (symmetric)".to_owned(),
                public_addresses: vec!["203.0.113.4".to_owned()],
                ..Side::default()
            }),
            there: None,
            steps: vec![Step {
                ago_seconds: 61.0,
                count: 2,
                text: "no direct path: no hole punch went through".to_owned(),
                addresses: vec![tried],
            }],
            services: vec![Use {
                service: "web".to_owned(),
                ago_seconds: 5.0,
                count: 1,
                text: "opened".to_owned(),
                opened: true,
            }],
            findings: vec![Finding {
                fault: "punch_failed".to_owned(),
                why: "no hole punch went through".to_owned(),
                help: "switch on UPnP".to_owned(),
            }],
            next_attempt_seconds: Some(29.6),
        };
        let wanted = "\
alice (…WAlice): reached through the relay 12D3KooWRelay, over TCP, for 3 min, 51 ms
  NAT here: one port for each destination (symmetric)
  seen from outside at 203.0.113.4
  NAT of the peer: not known
what happened
     1 min ago  2 times, no direct path: no hole punch went through
                  /ip4/198.51.100.7/tcp/35000: timed out
services
       5 s ago  `web`: opened
why: no hole punch went through
  what would help: switch on UPnP
next attempt: in 29 s
";
        assert_eq!(told(&story), wanted);
    }

    #[test]
    fn what_a_peer_wrote_steers_no_terminal_and_begins_no_line() {
        let text =
            "the session did not come about: \u{1b}]52;c;x\u{7}\nwhy: nothing is wrong".to_owned();
        let story = Story { steps: vec![Step { text, ..Step::default() }], ..Story::default() };
        let told = told(&story);
        assert!(!told.contains('\u{1b}') && !told.contains("\nwhy:"), "{told:?}");
    }

    #[test]
    fn where_nothing_is_in_the_way_it_says_so() {
        let story = Story { now: "reached directly over TCP".to_owned(), ..Story::default() };
        assert_eq!(
            told(&story),
            ": reached directly over TCP\n  NAT here: not known\nnothing is in the way\n"
        );
    }
}
