//! `punchline ping`: how long a peer takes to answer, and by which path.

use std::{fmt, io::Write as _, time::Duration};

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Code;

use crate::{
    Unusable, cli,
    control::{
        self,
        proto::{Connection, PingRequest, Pong},
    },
    plain::plain,
    shapes::{self, versioned},
    stop,
};

/// Between two pings.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Round trips that are kept for the summary: an hour of them; then the oldest are forgotten.
const KEPT_MAX: usize = 3600;

/// Pings and prints, until told to stop, or as often as asked for.
///
/// # Errors
/// If no node answers, the peer is not connected, no ping was answered, or no direct path was found although that was to
/// be waited for.
pub(super) async fn run(settings: cli::Ping) -> anyhow::Result<()> {
    let mut node = control::ask(&settings.asking).await?;
    let mut tally = Tally::default();
    let mut pause = interval(PING_INTERVAL);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut direct = false;
    while settings.count == 0 || tally.sent < settings.count {
        tokio::select! {
            _ = pause.tick() => {}
            () = stop::told() => break,
        }
        let asked = node.ping(PingRequest { peer: settings.peer.to_string() });
        let answer = tokio::select! {
            answer = asked => answer,
            () = stop::told() => break,
        };
        match answer {
            Ok(pong) => {
                let pong = pong.into_inner();
                let line = tally.answered(&pong);
                print(&if settings.json { answer_json(&pong).to_string() } else { line })?;
                direct = pong.connection.is_some_and(|taken| taken.path == "direct");
            }
            Err(error) if error.code() == Code::DeadlineExceeded => {
                tally.lost();
                let lost = lost_json(error.message()).to_string();
                print(if settings.json { &lost } else { error.message() })?;
            }
            Err(error) if error.code() == Code::NotFound => {
                anyhow::bail!("{}; `punchline status` lists those that are connected", error.message())
            }
            Err(error) if error.code() == Code::InvalidArgument => {
                return Err(Unusable(error.message().to_owned()).into());
            }
            Err(error) => return Err(super::refused(&error)),
        }
        if settings.until_direct && direct {
            break;
        }
    }
    print(&if settings.json { tally.json().to_string() } else { tally.to_string() })?;
    match (tally.round_trips.is_empty(), settings.until_direct && !direct) {
        (true, _) => anyhow::bail!("the peer did not answer"),
        (false, true) => {
            anyhow::bail!("the path is not direct; `punchline why {}` says why", settings.peer)
        }
        (false, false) => Ok(()),
    }
}

/// An answer, one that is missing, and the sum of all.
#[cfg(test)]
pub(super) fn examples() -> Vec<(&'static str, u32, Value)> {
    let (relay, relay_name) = (Some(String::new()), Some(String::new()));
    let connection = Some(Connection { relay, relay_name, ..Connection::default() });
    let pong = Pong { round_trip_ms: 1.0, connection };
    let mut tally = Tally::default();
    tally.answered(&pong);
    vec![
        ("ping-answer", shapes::PING, answer_json(&pong)),
        ("ping-lost", shapes::PING, lost_json("")),
        ("ping-sum", shapes::PING, tally.json()),
    ]
}

fn answer_json(pong: &Pong) -> Value {
    let taken = pong.connection.clone().unwrap_or_default();
    let mut answer = json!({
        "answered": true,
        "round_trip_ms": pong.round_trip_ms,
        "path": taken.path,
        "transport": taken.transport,
    });
    for (key, text) in [("relay", taken.relay), ("relay_name", taken.relay_name)] {
        if let Some(text) = text {
            answer[key] = text.into();
        }
    }
    versioned(shapes::PING, answer)
}

fn lost_json(reason: &str) -> Value {
    versioned(shapes::PING, json!({ "answered": false, "reason": reason }))
}

fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    Ok(writeln!(out, "{}", plain(line)).and_then(|()| out.flush())?)
}

/// What came of all pings.
#[derive(Default)]
struct Tally {
    sent: u64,
    lost: u64,
    /// In milliseconds.
    round_trips: Vec<f64>,
    path: Option<String>,
}

impl Tally {
    fn lost(&mut self) {
        self.sent += 1;
        self.lost += 1;
    }

    /// The line that says so.
    fn answered(&mut self, pong: &Pong) -> String {
        self.sent += 1;
        if self.round_trips.len() >= KEPT_MAX {
            self.round_trips.remove(0);
        }
        self.round_trips.push(pong.round_trip_ms);
        let path = pong.connection.as_ref().map(path_of).unwrap_or_default();
        let before = self.path.replace(path.clone());
        let changed = before.filter(|before| *before != path);
        let changed = changed.map(|before| format!(" (was {before})")).unwrap_or_default();
        format!("{:.1} ms, {path}{changed}", pong.round_trip_ms)
    }
}

fn path_of(taken: &Connection) -> String {
    let Connection { path, transport, relay, relay_name, .. } = taken;
    match relay_name.as_ref().or(relay.as_ref()) {
        Some(relay) => format!("{path} over {transport} by {relay}"),
        None => format!("{path} over {transport}"),
    }
}

impl Tally {
    /// The least, the median and what 95 of a hundred did not exceed; none if nothing was answered.
    fn percentiles(&self) -> Option<[f64; 3]> {
        let mut sorted = self.round_trips.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| sorted[((sorted.len() as f64 * share) as usize).min(last)];
        Some([at(0.0), at(0.5), at(0.95)])
    }

    fn json(&self) -> Value {
        let mut sum = json!({ "sent": self.sent, "lost": self.lost });
        if let Some([least, median, most]) = self.percentiles() {
            sum["least_ms"] = least.into();
            sum["median_ms"] = median.into();
            sum["p95_ms"] = most.into();
        }
        versioned(shapes::PING, sum)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} lost", self.sent, self.lost)?;
        let Some([least, median, most]) = self.percentiles() else { return Ok(()) };
        write!(f, "; least {least:.1}, median {median:.1}, 95th percentile {most:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(ms: f64, path: &str) -> Pong {
        let taken =
            Connection { path: path.to_owned(), transport: "tcp".to_owned(), ..Connection::default() };
        Pong { round_trip_ms: ms, connection: Some(taken) }
    }

    #[test]
    fn each_answer_is_a_line_and_another_path_is_said_when_it_comes() {
        let mut tally = Tally::default();
        assert_eq!(tally.answered(&pong(51.24, "relayed")), "51.2 ms, relayed over tcp");
        let moved = "23.0 ms, direct over tcp (was relayed over tcp)";
        assert_eq!(tally.answered(&pong(23.0, "direct")), moved);
        assert_eq!(tally.answered(&pong(24.0, "direct")), "24.0 ms, direct over tcp");
        tally.lost();
        let sum = "4 sent, 1 lost; least 23.0, median 24.0, 95th percentile 51.2 ms";
        assert_eq!(tally.to_string(), sum);
        assert_eq!(Tally::default().to_string(), "0 sent, 0 lost");
    }

    #[test]
    fn programs_read_each_answer_and_the_sum_of_all() {
        let mut tally = Tally::default();
        tally.answered(&pong(51.5, "relayed"));
        tally.lost();
        let answer = json!({
            "shape": 1, "answered": true, "round_trip_ms": 51.5, "path": "relayed", "transport": "tcp",
        });
        assert_eq!(answer_json(&pong(51.5, "relayed")), answer);
        let sum = json!({
            "shape": 1, "sent": 2, "lost": 1, "least_ms": 51.5, "median_ms": 51.5, "p95_ms": 51.5,
        });
        assert_eq!(tally.json(), sum);
        assert_eq!(Tally::default().json(), json!({ "shape": 1, "sent": 0, "lost": 0 }));
    }

    #[test]
    fn round_trips_of_an_hour_are_kept() {
        let mut tally = Tally::default();
        for _ in 0..2 * KEPT_MAX {
            tally.answered(&pong(1.0, "direct"));
        }
        assert_eq!((tally.sent, tally.round_trips.len()), (2 * KEPT_MAX as u64, KEPT_MAX));
    }
}
