//! What most scenarios need: a lab of two NATs, a relay on its internet, a server behind the first
//! router and a client behind the second, all of them the shipped programs.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Lab, LabSpec, Namespace};
use crate::process::{Event, Launch, Place, Program, ProgramError, binary};

/// A transport of a scenario: relay, circuit and punch all use it, or any of them where there are several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

impl Transport {
    /// The part of a multiaddr that follows the IP address.
    pub(crate) fn suffix(self, port: u16) -> String {
        match self {
            Self::Tcp => format!("tcp/{port}"),
            Self::Quic => format!("udp/{port}/quic-v1"),
        }
    }

    fn at(self, ip: IpAddr, port: u16) -> String {
        let family = if ip.is_ipv6() { "ip6" } else { "ip4" };
        format!("/{family}/{ip}/{}", self.suffix(port))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}

/// A lab with identities for its three programs, none of which runs yet.
#[derive(Debug)]
pub struct Scene {
    /// The lab; router and host 0 are the server's, 1 the client's.
    pub lab: Lab,
    /// The `PeerId` of the server.
    pub server_id: String,
    /// The `PeerId` of the relay.
    pub relay_id: String,
    transports: Vec<Transport>,
    /// Of the second relay, once it runs.
    second_relay: Option<String>,
    /// In place of the relay's own addresses, if any.
    node_relays: Vec<String>,
    node_args: Vec<String>,
    identities: TempDir,
}

impl Scene {
    /// Builds the programs, the lab (which must have two routers) and the identities.
    ///
    /// # Errors
    ///
    /// If one of them fails.
    pub async fn prepare(spec: &LabSpec, transport: Transport) -> Result<Self> {
        Self::prepare_over(spec, &[transport]).await
    }

    /// As [`Scene::prepare`], for nodes that listen on, and dial the relay by, each of `transports`.
    ///
    /// # Errors
    ///
    /// If one of them fails.
    pub async fn prepare_over(spec: &LabSpec, transports: &[Transport]) -> Result<Self> {
        let identities = tempfile::tempdir()?;
        let relay_id = peer_id(identities.path().join("relay")).await?;
        let server_id = peer_id(identities.path().join("server")).await?;
        let lab = Lab::build(spec)?;
        let transports = transports.to_vec();
        Ok(Self {
            lab,
            server_id,
            relay_id,
            transports,
            second_relay: None,
            node_relays: Vec::new(),
            node_args: Vec::new(),
            identities,
        })
    }

    /// Servers and clients that are started from then on get these arguments too.
    pub fn start_nodes_with(&mut self, args: &[&str]) {
        self.node_args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Servers and clients that are started from then on are given these multiaddrs of the relay, and no others.
    pub fn start_nodes_with_relays(&mut self, relays: Vec<String>) {
        self.node_relays = relays;
    }

    /// The multiaddr under which the relay is dialled; the first one, where it is by several transports or families.
    pub fn relay_address(&self) -> String {
        self.relay_addresses().next().expect("a relay has an address")
    }

    /// Every multiaddr under which the relay is dialled: of each family, over each transport.
    pub fn relay_addresses(&self) -> impl Iterator<Item = String> {
        let over = |transport: &Transport| listening(self.lab.relay(), *transport, RELAY_PORT);
        self.transports.iter().flat_map(over).map(|at| format!("{at}/p2p/{}", self.relay_id))
    }

    /// What everything runs over.
    pub fn transport(&self) -> Transport {
        self.transports[0]
    }

    /// Starts the relay, and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn start_relay(&self) -> Result<Program> {
        self.start_relay_at(self.lab.relay(), "relay", RELAY_PORT).await
    }

    /// Starts a second relay, on [`Lab::internet`], and waits until it listens; returns it and its multiaddr. Nodes
    /// that are started from then on use it beside the first one, over `transport`.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn start_second_relay(&mut self, transport: Transport) -> Result<(Program, String)> {
        let id = peer_id(self.identities.path().join("second-relay")).await?;
        let machine = self.lab.internet();
        let relay = self.start_relay_at(machine, "second-relay", SECOND_RELAY_PORT).await?;
        let address = transport.at(machine.address().into(), SECOND_RELAY_PORT);
        let address = format!("{address}/p2p/{id}");
        self.second_relay = Some(address.clone());
        Ok((relay, address))
    }

    async fn start_relay_at(&self, machine: &Namespace, identity: &str, port: u16) -> Result<Program> {
        let mut args = vec!["--identity".to_owned(), self.identity(identity)];
        let all = [Transport::Tcp, Transport::Quic];
        for address in all.into_iter().flat_map(|transport| listening(machine, transport, port)) {
            args.extend(["--listen", &address, "--external", &address].map(str::to_owned));
        }
        let relay = Program::spawn(machine, "relay", args)?;
        for transport in &self.transports {
            let own = transport.suffix(port);
            let listens =
                |event: &Event| event.text("address").is_some_and(|address| address.contains(&own));
            relay.wait_for("listening", listens, START_DEADLINE).await?;
        }
        Ok(relay)
    }

    /// Starts the server, and waits until it holds a reservation at each relay.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn start_server(&self) -> Result<Program> {
        let server = self.start_node(self.lab.host(0), "server", &[])?;
        for address in [Some(&self.relay_address()), self.second_relay.as_ref()].into_iter().flatten() {
            let there =
                |event: &Event| event.text("relay").is_some_and(|relay| address.ends_with(relay));
            server.wait_for("reservation_held", there, START_DEADLINE).await?;
        }
        Ok(server)
    }

    /// Starts the client with further arguments.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_client(&self, args: &[&str]) -> Result<Program> {
        self.start_client_at(self.lab.host(1), args)
    }

    /// As [`Scene::start_client`], on any machine of the lab.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_client_at(&self, host: &Namespace, args: &[&str]) -> Result<Program> {
        let args = [&["--peer", &self.server_id], args].concat();
        self.start_node(host, "client", &args)
    }

    fn start_node(&self, host: &Namespace, subcommand: &str, args: &[&str]) -> Result<Program> {
        let anywhere = |ip: IpAddr| match ip {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let everywhere = addresses(host).into_iter().map(anywhere);
        let over = |ip| self.transports.iter().map(move |transport| transport.at(ip, 0));
        let listen = everywhere.flat_map(over).flat_map(|at| ["--listen".to_owned(), at]);
        let relays = match self.node_relays.is_empty() {
            true => self.relay_addresses().collect(),
            false => self.node_relays.clone(),
        };
        let launch = Launch::punchline(host, subcommand)?
            .args(["--identity", &self.identity(subcommand), "--network", NETWORK])
            .args(listen)
            .args(relays.iter().flat_map(|address| ["--relay", address]))
            .args(self.second_relay.iter().flat_map(|address| ["--relay", address]))
            .args(&self.node_args)
            .args(args);
        let launch = match std::env::var_os("JOURNALS") {
            // For bridge/src/engine/tests/journals.
            Some(folder) => {
                let journal =
                    Path::new(&folder).join(format!("lab-{}-{subcommand}.jsonl", self.transports[0]));
                launch.args(["--journal".as_ref(), journal.as_os_str()])
            }
            None => launch,
        };
        Ok(launch.spawn()?)
    }

    /// What `punchline why PEER --json` says at the node that runs this command.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub async fn why(&self, subcommand: &str, peer: &str) -> Result<Value> {
        let launch = Launch::program(Place::Host, binary("punchline")?);
        let socket = format!("{}.sock", self.identity(subcommand));
        let launch = launch.args(["why", peer, "--json", "--control", &socket]);
        let output = launch.output(START_DEADLINE).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn identity(&self, name: &str) -> String {
        self.identities.path().join(name).to_string_lossy().into_owned()
    }
}

/// The three programs of a scenario.
#[derive(Debug)]
pub struct Cast {
    /// On the internet.
    pub relay: Program,
    /// Behind router 0, holding a reservation.
    pub server: Program,
    /// Behind router 1.
    pub client: Program,
}

impl Cast {
    /// Starts relay, server and client, the client with further arguments.
    ///
    /// # Errors
    ///
    /// If one of them does not start, or the server gets no reservation.
    pub async fn start(scene: &Scene, client: &[&str]) -> Result<Self> {
        let relay = scene.start_relay().await?;
        Self::start_at(scene, relay, scene.lab.host(1), client).await
    }

    /// As [`Cast::start`], with the client beside the server, behind the same router.
    ///
    /// # Errors
    ///
    /// If one of them does not start, or the server gets no reservation.
    pub async fn start_as_neighbours(scene: &Scene, client: &[&str]) -> Result<Self> {
        let relay = scene.start_relay().await?;
        Self::start_at(scene, relay, scene.lab.neighbour(0), client).await
    }

    async fn start_at(scene: &Scene, relay: Program, host: &Namespace, client: &[&str]) -> Result<Self> {
        let server =
            scene.start_server().await.map_err(|error| anyhow!("{error:#}\n{}", relay.report()))?;
        let client = scene.start_client_at(host, client)?;
        Ok(Self { relay, server, client })
    }

    /// `name` from the server and from the client, in this order, each matching.
    ///
    /// # Errors
    ///
    /// As for [`Program::wait_for`].
    pub async fn both(
        &self,
        name: &str,
        matches: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Result<(Event, Event), ProgramError> {
        tokio::try_join!(
            self.server.wait_for(name, &matches, deadline),
            self.client.wait_for(name, &matches, deadline),
        )
    }

    /// `name` from the server or from the client, whichever is first.
    ///
    /// # Errors
    ///
    /// As for [`Program::wait_for`], about the one that failed first.
    pub async fn either(&self, name: &str, deadline: Duration) -> Result<Event, ProgramError> {
        tokio::select! {
            event = self.server.wait_for(name, |_| true, deadline) => event,
            event = self.client.wait_for(name, |_| true, deadline) => event,
        }
    }

    /// Whether the two ends still have the one session, and the one stream, that they began with.
    ///
    /// # Errors
    ///
    /// If there was another, or none, or the session ended.
    pub fn one_session(&self) -> Result<()> {
        for program in [&self.server, &self.client] {
            let events = program.events();
            let said = |name: &str| events.iter().filter(|event| event.name() == name).count();
            let (ready, ended) = (said("session_ready"), said("session_ended"));
            let (opened, closed) = (said("stream_opened"), said("stream_closed"));
            ensure!(ready == 1 && ended == 0, "{ready} sessions, {ended} of them ended");
            ensure!(opened == 1 && closed == 0, "{opened} streams, {closed} of them closed");
        }
        Ok(())
    }

    /// `result`, whose error is followed by all that the three programs printed.
    ///
    /// # Errors
    ///
    /// That of `result`.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let reports = || [&self.relay, &self.server, &self.client].map(Program::report).concat();
        result.map_err(|error| anyhow!("{error:#}\n{}", reports()))
    }
}

/// Whether both ends of a load of at least `mebibytes` saw the same bytes, and as many.
pub fn same_load(arrived: &Event, sent: &Event, mebibytes: u64) -> bool {
    let hash = arrived.text("sha256");
    let bytes = sent.number("bytes");
    let complete = |event: &Event| event.number("bytes") == bytes && bytes >= Some(mebibytes << 20);
    hash.is_some() && hash == sent.text("sha256") && complete(arrived) && complete(sent)
}

fn listening(machine: &Namespace, transport: Transport, port: u16) -> Vec<String> {
    addresses(machine).into_iter().map(|ip| transport.at(ip, port)).collect()
}

fn addresses(machine: &Namespace) -> Vec<IpAddr> {
    let v4 = machine.has_v4().then(|| machine.address().into());
    v4.into_iter().chain(machine.address_v6().map(IpAddr::V6)).collect()
}

/// Creates the identity `file` and tells its `PeerId`, as an operator would.
async fn peer_id(file: PathBuf) -> Result<String> {
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let launch = launch.args(["id".as_ref(), "--identity".as_ref(), file.as_os_str()]);
    let output = launch.output(START_DEADLINE).await?;
    let complaint = || String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "punchline id: {}", complaint());
    let printed = String::from_utf8(output.stdout.clone()).context("punchline id")?;
    let alone = printed.trim_end();
    ensure!(!alone.is_empty() && !alone.contains('\n'), "punchline id printed {printed:?}");
    Ok(alone.to_owned())
}

/// How long a program may take to start, dial the relay and get a reservation.
pub const START_DEADLINE: Duration = Duration::from_secs(20);

const RELAY_PORT: u16 = 4001;
const SECOND_RELAY_PORT: u16 = 4002;
const NETWORK: &str = "simnet";
