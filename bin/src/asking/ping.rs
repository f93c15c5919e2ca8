//! `punchline ping`: how long a peer takes to answer, and by which path.

use std::{fmt, io::Write as _, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tonic::Code;

use crate::{
    Unusable, cli,
    control::{
        self,
        proto::{Connection, PingRequest, Pong},
    },
    plain::plain,
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
                print(&tally.answered(&pong))?;
                direct = pong.connection.is_some_and(|taken| taken.path == "direct");
            }
            Err(error) if error.code() == Code::DeadlineExceeded => {
                tally.lost();
                print(error.message())?;
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
    print(&tally.to_string())?;
    match (tally.round_trips.is_empty(), settings.until_direct && !direct) {
        (true, _) => anyhow::bail!("the peer did not answer"),
        (false, true) => {
            anyhow::bail!("the path is not direct; `punchline why {}` says why", settings.peer)
        }
        (false, false) => Ok(()),
    }
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

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.round_trips.clone();
        sorted.sort_by(f64::total_cmp);
        write!(f, "{} sent, {} lost", self.sent, self.lost)?;
        let at = |share: f64| {
            sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)))
        };
        let (Some(least), Some(median), Some(most)) = (at(0.0), at(0.5), at(0.95)) else {
            return Ok(());
        };
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
    fn round_trips_of_an_hour_are_kept() {
        let mut tally = Tally::default();
        for _ in 0..2 * KEPT_MAX {
            tally.answered(&pong(1.0, "direct"));
        }
        assert_eq!((tally.sent, tally.round_trips.len()), (2 * KEPT_MAX as u64, KEPT_MAX));
    }
}
