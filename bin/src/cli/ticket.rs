//! `punchline ticket`.

use std::{str::FromStr, time::Duration};

use clap::{Args, Subcommand, builder::BoolishValueParser};
use libp2p::Multiaddr;
use punchline_bridge::{RelayLocator, Service};

use super::{Many, time::length};
use crate::access::TicketId;

/// `punchline ticket`.
#[derive(Args, Debug)]
pub struct Ticket {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with tickets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a ticket: one string that lets whoever has it use one service of this node.
    New(New),
    /// Show the tickets of this node.
    List(List),
    /// Make tickets void, and cut the streams that they opened.
    Revoke(Revoke),
}

/// `punchline ticket new`.
#[derive(Args, Debug)]
pub struct New {
    /// The service that the ticket opens, by the name under which `punchline expose` offers it.
    #[arg(long, env = "PUNCHLINE_SERVICE", value_name = "NAME")]
    pub service: Service,
    /// How long it opens new connections, as 90s, 15m, 1h or 7d. Those that are open then stay.
    #[arg(long, env = "PUNCHLINE_EXPIRES", value_name = "TIME", default_value = "1h")]
    pub expires: Lifetime,
    /// It opens one connection, and is void then.
    #[arg(long, env = "PUNCHLINE_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,
    /// A relay where this node is reached, as `/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…`, or a name that stands for relays,
    /// as `relay.example.org`.
    #[arg(long, env = "PUNCHLINE_RELAY", value_name = "ADDR")]
    pub relay: Vec<Many<RelayLocator>>,
    /// An address where this node is reached without a relay.
    #[arg(long, env = "PUNCHLINE_ADDR", value_name = "ADDR")]
    pub addr: Vec<Many<Multiaddr>>,
}

/// `punchline ticket list`.
#[derive(Args, Debug)]
pub struct List {
    /// Print one JSON array instead of a table.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline ticket revoke`.
#[derive(Args, Debug)]
pub struct Revoke {
    /// Ids of tickets, as `punchline ticket list` shows them.
    #[arg(value_name = "ID")]
    pub ids: Vec<TicketId>,
    /// Every ticket of this node.
    #[arg(long, env = "PUNCHLINE_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
}

/// How long a ticket is good: from 1 second to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(Duration);

/// Longer is a typo, or should be an entry in an allow list.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const LIFETIME_FORM: &str = "say 90s, 15m, 1h or 7d; from 1 second to 366 days";

impl Lifetime {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        length(text, LIFETIME_MAX, LIFETIME_FORM).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_and_a_unit_from_a_second_to_a_year() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("15m", 900),
            ("1h", 3600),
            ("1h30m", 5400),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("366d", 31_622_400),
        ] {
            assert_eq!(text.parse::<Lifetime>().unwrap().duration().as_secs(), seconds, "{text}");
        }
        for bad in
            ["", "0s", "-1h", "999ms", "1y", "1mo", "367d", "1", "h", "forever", "99999999999999999999h"]
        {
            let error = bad.parse::<Lifetime>().unwrap_err();
            assert!(error.contains("90s, 15m, 1h or 7d"), "{bad}: {error}");
        }
    }
}
