//! Our programs on loopback, for other implementations of libp2p to meet.

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    ports::free_port,
    process::{Event, Launch, Place, Program},
    scene::Transport,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::world::{ANY, SOON, id};

/// A target that is never asked for.
pub(crate) const NOBODY: &str = "127.0.0.1:9";

/// Loopback is public.
const PUBLIC: [&str; 2] = ["--assume-global", "127.0.0.0/8"];

/// Each is started once.
pub(crate) struct Ours(TempDir);

impl Ours {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) async fn id(&self, name: &str) -> Result<String> {
        id(&self.0, name).await
    }

    fn launch(&self, subcommand: &str) -> Result<Launch> {
        let identity = self.0.path().join(subcommand).to_string_lossy().into_owned();
        let launch = Launch::punchline(Place::Host, subcommand)?;
        Ok(launch.args(PUBLIC).args(["--identity", &identity]))
    }

    /// And where it is reached over TCP and over QUIC.
    pub(crate) async fn relay(&self) -> Result<(Program, [String; 2])> {
        let port = free_port([127, 0, 0, 1])?.port();
        let addresses =
            [format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")];
        let launch = self.launch("relay")?.args(["--stun-listen", "off"]);
        let relay = launch.args(addresses.iter().flat_map(|address| ["--listen", address])).spawn()?;
        for address in &addresses {
            relay.wait_for("listening", |event| event.has("address", address), SOON).await?;
        }
        Ok((relay, addresses))
    }

    pub(crate) fn expose(&self, transport: Transport, relay: &str, target: &str) -> Result<Program> {
        let service = format!("target={target}");
        let launch = self.launch("expose")?.args(["--listen", loopback(transport), "--allow-any"]);
        Ok(launch.args(["--relay", relay, "--service", &service]).spawn()?)
    }

    /// It keeps a connection to its peer, whether that has such a service or not.
    pub(crate) fn forward(&self, transport: Transport, peer: &str, way: &[&str]) -> Result<Program> {
        let launch = self.launch("forward")?.args(["--listen", loopback(transport), "--peer", peer]);
        Ok(launch.args(["--service", "target", "--local", ANY]).args(way).spawn()?)
    }
}

/// Any port there.
pub(crate) fn loopback(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "/ip4/127.0.0.1/tcp/0",
        Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
    }
}

/// Waits for a connection that `program` says it has with `peer`.
pub(crate) async fn opened(
    program: &Program,
    peer: &str,
    path: &str,
    direction: &str,
    transport: Transport,
) -> Result<Event> {
    let transport = transport.to_string();
    let wanted = [("peer", peer), ("path", path), ("direction", direction), ("transport", &transport)];
    let is = |event: &Event| wanted.iter().all(|(field, value)| event.has(field, value));
    Ok(program.wait_for("connection_opened", is, SOON).await?)
}

/// A byte goes to the target and another comes back.
pub(crate) async fn speak(forward: &Program, target: &TcpListener) -> Result<()> {
    let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
    let mut client = TcpStream::connect(listening.text("local").context("a place")?).await?;
    client.write_all(b"?").await?;
    let talk = async {
        let (mut served, _) = target.accept().await?;
        ensure!(served.read_u8().await? == b'?');
        served.write_all(b"!").await?;
        ensure!(client.read_u8().await? == b'!');
        Ok(())
    };
    tokio::time::timeout(SOON, talk).await.context("nobody answers through the relay")?
}
