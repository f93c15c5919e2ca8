//! A relay, and sidecars that find each other through it, on this machine or in the lab.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::kaspad::{Kaspad, own_address};
use punchline_tests::lab::{Lab, LabSpec, Nat};
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use punchline_tests::scene::Transport;
use tempfile::TempDir;

/// What every sidecar needs to know.
pub(crate) struct World {
    identities: TempDir,
    relay: Program,
    relay_address: String,
    transport: Transport,
}

/// `punchline forward`, ready: a node may dial. Its connection to the other sidecar stands; on this
/// machine, where nothing is in the way, it is direct.
pub(crate) struct Forward {
    pub(crate) program: Program,
    pub(crate) local: SocketAddr,
}

impl World {
    /// With a relay on this machine.
    pub(crate) async fn on_loopback() -> Result<Self> {
        Self::around(Place::Host, own_address(), Transport::Tcp).await
    }

    /// With a relay on the internet of a lab.
    pub(crate) async fn in_lab(lab: &Lab, transport: Transport) -> Result<Self> {
        Self::around(lab.relay().into(), lab.relay().address(), transport).await
    }

    async fn around(place: Place<'_>, ip: Ipv4Addr, transport: Transport) -> Result<Self> {
        let address = listen(ip, transport, RELAY_PORT);
        let identities = TempDir::new()?;
        let id = peer_id(&identities.path().join("relay")).await?;
        let relay = Launch::punchline(place, "relay")?
            .args(["--identity".as_ref(), identities.path().join("relay").as_os_str()])
            .args(["--listen", &address, "--external", &address])
            .spawn()?;
        relay.wait_for("listening", |_| true, DEADLINE).await?;
        let relay_address = format!("{address}/p2p/{id}");
        Ok(Self { identities, relay, relay_address, transport })
    }

    /// The `PeerId` of the sidecar called `name`.
    pub(crate) async fn peer_id(&self, name: &str) -> Result<String> {
        peer_id(&self.identities.path().join(name)).await
    }

    /// The sidecar called `name` exposes `node`, which runs at the same place, to those `allowed`.
    pub(crate) async fn expose<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        name: &str,
        node: &Kaspad,
        allowed: &[&str],
    ) -> Result<Program> {
        let mut launch = self.sidecar(place.into(), "expose", name)?;
        launch = launch.args(["--service", &format!("kaspad={}", node.p2p())]);
        for allowed in allowed {
            launch = launch.args(["--allow", &self.peer_id(allowed).await?]);
        }
        let expose = launch.spawn()?;
        expose.wait_for("reservation_held", |_| true, DEADLINE).await?;
        Ok(expose)
    }

    /// The sidecar called `name` forwards to the one called `to`.
    pub(crate) async fn forward<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        name: &str,
        to: &str,
    ) -> Result<Forward> {
        let place = place.into();
        let always_direct = matches!(place, Place::Host);
        let peer = self.peer_id(to).await?;
        let local = format!("{}:26111", own_address());
        let program = self
            .sidecar(place, "forward", name)?
            .args(["--peer", &peer, "--service", "kaspad", "--local", &local])
            .spawn()?;
        let listening = program.wait_for("forward_listening", |_| true, DEADLINE).await?;
        let ready =
            |event: &Event| event.has("peer", &peer) && (!always_direct || event.has("path", "direct"));
        program.wait_for("connection_opened", ready, DEADLINE).await?;
        let local = listening.text("local").context("no local address")?.parse()?;
        Ok(Forward { program, local })
    }

    /// `punchline SUBCOMMAND` as `name`, with nothing said of a relay.
    pub(crate) fn launch<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        subcommand: &str,
        name: &str,
    ) -> Result<Launch> {
        let launch = Launch::punchline(place, subcommand)?;
        Ok(launch.args(["--identity".as_ref(), self.identities.path().join(name).as_os_str()]))
    }

    pub(crate) fn sidecar(&self, place: Place<'_>, subcommand: &str, name: &str) -> Result<Launch> {
        let interfaces = match place {
            Place::Host => Ipv4Addr::LOCALHOST,
            Place::Lab(_) => Ipv4Addr::UNSPECIFIED,
        };
        let launch = self.launch(place, subcommand, name)?;
        let listen = listen(interfaces, self.transport, 0);
        Ok(launch.args(["--listen", &listen, "--relay", &self.relay_address]))
    }

    pub(crate) fn relay(&self) -> &Program {
        &self.relay
    }
}

/// Two port-preserving NATs.
pub(crate) fn two_nats() -> Result<Lab> {
    Ok(Lab::build(&LabSpec::new([Nat::PortPreserving; 2]))?)
}

fn listen(ip: Ipv4Addr, transport: Transport, port: u16) -> String {
    match transport {
        Transport::Tcp => format!("/ip4/{ip}/tcp/{port}"),
        Transport::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
    }
}

/// Creates the identity `file`, if there is none, and tells its `PeerId`.
async fn peer_id(file: &Path) -> Result<String> {
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let launch = launch.args(["id".as_ref(), "--identity".as_ref(), file.as_os_str()]);
    let output = launch.output(DEADLINE).await?;
    ensure!(output.status.success(), "punchline id: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// For anything that a sidecar does on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const RELAY_PORT: u16 = 4001;
