//! The networks of a rehearsal, and its machines: each a folder, and a namespace of the lab to type into.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::{Machine, Topology};
use crate::lab::{Lab, LabSpec, Miniupnpd, Namespace, Nat, PortMapping};
use crate::process::{Event, Launch, search_path};

/// What the steps are typed into.
pub(super) struct Stage {
    topology: Topology,
    /// Ended before the lab is.
    _forwarding: Option<Miniupnpd>,
    lab: Lab,
    homes: TempDir,
    path: OsString,
}

impl Stage {
    pub(super) fn build(topology: Topology) -> Result<Self> {
        let path = search_path()?;
        let homes = tempfile::tempdir()?;
        for machine in Machine::ALL {
            fs::create_dir(homes.path().join(machine.to_string()))?;
        }
        let lab = Lab::build(&match topology {
            Topology::TwoNats | Topology::AddressChanged => LabSpec::new([Nat::PortPreserving; 2]),
            Topology::MappedPort | Topology::Symmetric | Topology::RelayKilled => {
                LabSpec::new([Nat::Symmetric; 2])
            }
            Topology::Lan => LabSpec::new([Nat::PortPreserving]).with_neighbours(),
        })?;
        let forwarding = match topology {
            Topology::MappedPort => Some(Miniupnpd::start(&lab, SERVER, PortMapping::Pcp, HOUR)?),
            _ => None,
        };
        Ok(Self { topology, _forwarding: forwarding, lab, homes, path })
    }

    fn namespace(&self, machine: Machine) -> &Namespace {
        match machine {
            Machine::Relay => self.lab.relay(),
            Machine::Relay2 => self.lab.internet(),
            Machine::Server => self.lab.host(SERVER),
            Machine::Client if self.topology == Topology::Lan => self.lab.neighbour(SERVER),
            Machine::Client => self.lab.host(CLIENT),
        }
    }

    /// The variables that a person knows from the start.
    pub(super) fn given(&self) -> BTreeMap<String, String> {
        let [a, b, c, d] = self.namespace(Machine::Client).address().octets();
        let ip = |machine| self.namespace(machine).address().to_string();
        let values = [
            ip(Machine::Relay),
            ip(Machine::Relay2),
            "eth0".to_owned(),
            format!("{a}.{b}.{c}.{}/24", d + 1),
            Ipv4Addr::new(a, b, c, 1).to_string(),
        ];
        super::GIVEN.map(str::to_owned).into_iter().zip(values).collect()
    }

    /// What stands for each address in what is published.
    pub(super) fn addresses(&self) -> Vec<(Ipv4Addr, &'static str)> {
        let of = |machine| self.namespace(machine).address();
        let [a, b, c, d] = of(Machine::Client).octets();
        let mut named = vec![
            (of(Machine::Relay), "<RELAY_IP>"),
            (of(Machine::Relay2), "<RELAY_2_IP>"),
            (of(Machine::Server), "<SERVER_IP>"),
            (of(Machine::Client), "<CLIENT_IP>"),
            (Ipv4Addr::new(a, b, c, d + 1), "<NEW_CLIENT_IP>"),
        ];
        match self.topology {
            Topology::Lan => named.push((self.lab.seen_address(SERVER), "<HOME_IP>")),
            _ => named.extend([
                (self.lab.seen_address(SERVER), "<SERVER_HOME_IP>"),
                (self.lab.seen_address(CLIENT), "<CLIENT_HOME_IP>"),
            ]),
        }
        named
    }

    /// Types `script` into a shell on `machine`, and returns what it prints.
    pub(super) async fn enter(
        &self,
        machine: Machine,
        script: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<String> {
        let home = self.home(machine);
        // Without arguments `cd` goes home.
        let shell = Launch::program(self.namespace(machine), "sh")
            .args(["-ec", &format!("cd\n{script}")])
            .env("PATH", &self.path)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", home.join("state"));
        let shell = variables.iter().fold(shell, |shell, (name, value)| shell.env(name, value));
        let output = shell.output(SHELL_DEADLINE).await?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {}", output.status, complaint.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The events on `machine` so far.
    pub(super) fn events(&self, machine: Machine) -> Vec<Event> {
        let text = fs::read_to_string(self.home(machine).join("events.jsonl")).unwrap_or_default();
        text.lines().filter_map(Event::parse).collect()
    }

    /// Events and log of every machine, for a person who wants to know why a step failed.
    pub(super) fn all_that_was_said(&self) -> String {
        let files = Machine::ALL
            .into_iter()
            .flat_map(|machine| ["events.jsonl", "program.log"].map(|name| (machine, name)));
        let said = files.filter_map(|(machine, name)| {
            let text = fs::read_to_string(self.home(machine).join(name)).ok()?;
            Some(format!("--- {machine}: {name}\n{text}"))
        });
        said.collect()
    }

    /// Bytes that crossed the (first) relay's link so far.
    pub(super) fn relay_link_bytes(&self) -> Result<u64> {
        Ok(self.lab.relay_link_bytes()?)
    }

    /// Bytes that the server's router carried so far between it and the client; none if no router is between them.
    pub(super) fn direct_bytes(&self) -> Result<Option<u64>> {
        let routed = self.topology != Topology::Lan;
        Ok(routed.then(|| self.lab.direct_bytes(SERVER, CLIENT)).transpose()?)
    }

    fn home(&self, machine: Machine) -> PathBuf {
        self.homes.path().join(machine.to_string())
    }
}

/// Routers and hosts.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// For how long the router forwards a port unless asked again, in seconds.
const HOUR: u32 = 3600;

/// Programs that stay are started in the background, and the shell is done at once. One whose output is not sent to a
/// file keeps it.
const SHELL_DEADLINE: Duration = Duration::from_secs(20);
