//! The shipped programs: a relay, and behind it whatever a test needs.

mod exposed;
mod forwarded;

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use kaspa_p2p_lib::{PeerKey, make_message, pb, pb::kaspad_message::Payload};
use punchline_kaspa_tests::Peer;
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use tempfile::TempDir;

use crate::world::SOON;

/// A relay, and a directory for everybody's identities.
struct World {
    directory: TempDir,
    _relay: Program,
    relay_address: String,
}

impl World {
    async fn new() -> Result<Self> {
        let directory = TempDir::new()?;
        let relay = launch(&directory, "relay", "relay")?.args(["--external", "auto"]);
        let relay = relay.args(["--assume-global", "127.0.0.0/8"]).spawn()?;
        let listening = relay.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").context("no address")?;
        let relay_address = format!("{address}/p2p/{}", peer_id(&directory, "relay").await?);
        Ok(Self { directory, _relay: relay, relay_address })
    }

    /// The `PeerId` of the program called `name`.
    async fn peer_id(&self, name: &str) -> Result<String> {
        peer_id(&self.directory, name).await
    }

    /// `punchline SUBCOMMAND`, as the program called `name`, with the relay.
    fn launch(&self, subcommand: &str, name: &str) -> Result<Launch> {
        Ok(launch(&self.directory, subcommand, name)?.args(["--relay", &self.relay_address]))
    }

    /// `punchline server`, reachable through the relay.
    async fn server(&self) -> Result<Program> {
        let server = self.launch("server", "server")?.args(["--network", "simnet"]).spawn()?;
        server.wait_for("reservation_held", |_| true, SOON).await?;
        Ok(server)
    }

    /// `punchline forward` to the server, ready: its connection to it stands. And where it listens.
    async fn forward(&self) -> Result<(Program, SocketAddr)> {
        let server = self.peer_id("server").await?;
        let forward = self.launch("forward", "forward")?;
        let forward = forward.args(["--peer", &server, "--service", "kaspa-p2p"]);
        let forward = forward.args(["--local", "127.0.0.1:0"]).spawn()?;
        let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
        let there = |event: &Event| event.has("peer", &server);
        forward.wait_for("connection_opened", there, SOON).await?;
        let local = listening.text("local").context("no address")?.parse()?;
        Ok((forward, local))
    }

    /// `punchline expose` of what listens at `target`, for the client alone.
    async fn expose(&self, target: SocketAddr) -> Result<Program> {
        let client = self.peer_id("client").await?;
        let service = format!("kaspa-p2p={target}");
        let expose = self.launch("expose", "expose")?;
        let expose = expose.args(["--service", &service, "--allow", &client]).spawn()?;
        expose.wait_for("reservation_held", |_| true, SOON).await?;
        Ok(expose)
    }

    /// `punchline client` that dials what is exposed, and gives up soon if the peer refuses it. All of
    /// them have the same key, each in a file of its own: no two processes share one.
    async fn client(&self) -> Result<Program> {
        let expose = self.peer_id("expose").await?;
        self.peer_id("client").await?;
        let copy = format!("client-{}", std::fs::read_dir(self.directory.path())?.count());
        std::fs::copy(self.directory.path().join("client"), self.directory.path().join(&copy))?;
        let client = self.launch("client", &copy)?.args(["--network", "simnet"]);
        Ok(client.args(["--peer", &expose, "--dial-attempts", "3"]).spawn()?)
    }
}

fn launch(directory: &TempDir, subcommand: &str, name: &str) -> Result<Launch> {
    let launch = Launch::punchline(Place::Host, subcommand)?;
    let launch = launch.args(["--identity".as_ref(), directory.path().join(name).as_os_str()]);
    Ok(launch.args(["--listen", "/ip4/127.0.0.1/tcp/0"]))
}

async fn peer_id(directory: &TempDir, name: &str) -> Result<String> {
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let identity = directory.path().join(name);
    let launch = launch.args(["id".as_ref(), "--identity".as_ref(), identity.as_os_str()]);
    let output = launch.output(SOON).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// A block of a megabyte and a ping behind it, which is answered when all before it was read.
async fn talks(peer: &mut Peer, to: PeerKey) -> Result<()> {
    let transaction = pb::TransactionMessage { payload: vec![7; 1 << 20], ..Default::default() };
    let block = pb::BlockMessage { header: None, transactions: vec![transaction] };
    ensure!(peer.say(to, make_message!(Payload::Block, block)).await, "no session");
    let nonce = 77;
    ensure!(peer.say(to, make_message!(Payload::Ping, pb::PingMessage { nonce })).await, "no session");
    let pong = peer.hear(|heard| match heard.message.payload {
        Some(Payload::Pong(pong)) => Some(pong.nonce),
        _ => None,
    });
    ensure!(pong.await == Some(nonce), "the ping was not answered");
    Ok(())
}
