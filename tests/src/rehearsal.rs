//! The runbook for three real machines, `design/runbook.md`, executed in the lab as a person would execute it.
//!
//! Reading order: here what is rehearsed; `runbook` reads the file, `text` its sentences; `stage` builds the networks and
//! types into the machines; `run` goes through the steps; `report` tells what came of it, and `sanitise` takes the
//! addresses out of that.

use std::fmt;
use std::str::FromStr;

mod report;
mod run;
mod runbook;
mod sanitise;
mod stage;
mod text;

pub use report::{Origin, Verdict};
pub use run::{Rehearsal, rehearse};
pub use runbook::{Condition, Relation, Runbook, RunbookError, Sight, Step};
pub use text::Unclear;

/// The runbook.
pub const RUNBOOK: &str = include_str!("../../design/runbook.md");

/// Variables of the runbook that whoever follows it knows from the start.
pub const GIVEN: [&str; 5] = ["RELAY_IP", "RELAY_2_IP", "INTERFACE", "NEW_ADDRESS", "GATEWAY"];

/// A machine that the runbook speaks of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Machine {
    /// The relay.
    Relay,
    /// Another relay.
    Relay2,
    /// The server.
    Server,
    /// The client.
    Client,
}

impl Machine {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Relay, Self::Relay2, Self::Server, Self::Client];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Relay2 => "relay-2",
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Machine {
    type Err = Unclear;

    fn from_str(name: &str) -> Result<Self, Unclear> {
        let found = Self::ALL.into_iter().find(|machine| machine.name() == name);
        found.ok_or_else(|| Unclear { found: name.to_owned(), wanted: one_of(Self::ALL) })
    }
}

/// What is rehearsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topology {
    /// Two usual home routers.
    TwoNats,
    /// Two symmetric NATs, one of which forwards ports.
    MappedPort,
    /// Two symmetric NATs.
    Symmetric,
    /// The same with two relays, one of which dies.
    RelayKilled,
    /// Two usual home routers, and a client that gets another address.
    AddressChanged,
    /// One network.
    Lan,
}

impl Topology {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::TwoNats,
        Self::MappedPort,
        Self::Symmetric,
        Self::RelayKilled,
        Self::AddressChanged,
        Self::Lan,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::TwoNats => "two-nats",
            Self::MappedPort => "mapped-port",
            Self::Symmetric => "symmetric",
            Self::RelayKilled => "relay-killed",
            Self::AddressChanged => "address-changed",
            Self::Lan => "lan",
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Topology {
    type Err = Unclear;

    fn from_str(name: &str) -> Result<Self, Unclear> {
        let found = Self::ALL.into_iter().find(|topology| topology.name() == name);
        found.ok_or_else(|| Unclear { found: name.to_owned(), wanted: one_of(Self::ALL) })
    }
}

fn one_of(all: impl IntoIterator<Item: fmt::Display>) -> String {
    let names: Vec<String> = all.into_iter().map(|one| format!("`{one}`")).collect();
    format!("one of {}", names.join(", "))
}
