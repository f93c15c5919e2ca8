//! The log on standard error. Whoever logs never waits for whoever reads it.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde_json::json;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

use super::{
    format::{Json, Text},
    outlet::{Outlet, Voice},
    place::Place,
};
use crate::cli::{Common, LogFormat};

/// The log of this process.
pub struct Log(Outlet);

impl Log {
    /// From now on what is logged goes to standard error.
    ///
    /// # Errors
    /// If the system does not let us use standard error, or start a thread.
    pub fn start(common: &Common) -> io::Result<Self> {
        // What Kademlia warns of, strangers can cause as often as they like.
        let level = match common.verbose {
            _ if common.quiet => "warn",
            0 => "warn,libp2p_kad=error,punchline=info,punchline_bridge=info,punchline_protocol=info",
            1 => "info,libp2p_kad=error,punchline=debug,punchline_bridge=debug,punchline_protocol=debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let gap = match common.log_format {
            LogFormat::Text => |count| format!("{count} lines are missing here: nobody read them\n"),
            LogFormat::Json => json_gap,
        };
        let outlet = Outlet::start(Place::stderr()?, Voice { subject: None, gap })?;
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Writer(outlet.clone()))
            .with_ansi(io::stderr().is_terminal() && colours_wanted(std::env::var_os("NO_COLOR")));
        match common.log_format {
            LogFormat::Text => log.event_format(Text).finish().init(),
            LogFormat::Json => log.event_format(Json).finish().init(),
        }
        Ok(Self(outlet))
    }

    /// Says something that is no entry of the log, after all that was logged before.
    pub fn say(&self, line: &str) {
        self.0.send(format!("{line}\n"));
    }

    /// Waits until all is written, or the deadline is over.
    pub fn finish(&self, deadline: Duration) {
        self.0.finish(deadline);
    }
}

/// <https://no-color.org>: any value but an empty one says no.
fn colours_wanted(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

fn json_gap(count: u64) -> String {
    let timestamp = format!("{:.6}", jiff::Timestamp::now());
    let fields = json!({ "message": "lines are missing here: nobody read them", "count": count });
    json!({ "timestamp": timestamp, "level": "WARN", "fields": fields }).to_string() + "\n"
}

/// Each entry of the log is written in one piece.
struct Writer(Outlet);

struct Piece<'a>(&'a Outlet);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Piece<'a>;

    fn make_writer(&'a self) -> Piece<'a> {
        Piece(&self.0)
    }
}

impl io::Write for Piece<'_> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(entry).into_owned());
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_means_no_colours_unless_it_is_empty() {
        assert!(colours_wanted(None) && colours_wanted(Some("".into())));
        assert!(!colours_wanted(Some("1".into())) && !colours_wanted(Some("0".into())));
    }
}
