//! A hundred connections of ten MiB at once, through `expose` and `forward`: on loopback, and behind
//! real NATs. There their sockets are Unix ones, which lead out of a network namespace, so that the
//! test itself can be the program at either end.

#![allow(clippy::unwrap_used)]

mod bulk;
mod direct;
#[expect(dead_code, reason = "the tests of the gateway use the rest")]
#[path = "../gateway/world.rs"]
mod world;

use std::{cell::RefCell, collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    lab::{Lab, LabError, LabSpec, Nat, UnexpectedSyn},
    process::{Event, Launch, Program},
    scene::{Scene, Transport},
    trial::{self, lab_trial, trial},
};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Mutex,
};

use crate::{
    bulk::{BYTES, CONNECTIONS, Hasher},
    world::SOON,
};

fn main() -> ExitCode {
    trial::run(vec![
        trial("bulk_arrives_whole_over_a_direct_connection_in_bounded_memory", direct_bulk),
        lab_trial("bulk_arrives_whole_through_a_relay_in_bounded_memory", relayed_bulk),
        lab_trial("bulk_that_begins_on_the_relay_arrives_whole_on_the_direct_path", moved_bulk),
    ])
}

/// One at a time: two at once would measure each other.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Payload of all connections.
const ALL_BYTES: u64 = (CONNECTIONS * BYTES) as u64;

async fn direct_bulk() -> Result<()> {
    let _alone = ALONE.lock().await;
    direct::bulk().await
}

async fn relayed_bulk() -> Result<()> {
    let _alone = ALONE.lock().await;
    let spec = LabSpec::new([Nat::PortPreserving; 2]).unexpected_syn(UnexpectedSyn::Reset);
    let stage = Stage::set(&spec, |_| Ok(())).await?;
    bulk::send(|| UnixStream::connect(stage.local())).await.with_context(|| stage.forward.report())?;
    let programs = [("expose", &stage.expose), ("forward", &stage.forward), ("relay", &stage.relay)];
    bulk::check_memory("relayed", &programs)?;
    let direct = stage.sent("sent_direct_bytes").await?;
    ensure!(direct == 0, "{direct} bytes found a direct path");
    ensure!(stage.scene.lab.relay_link_bytes()? >= ALL_BYTES);
    Ok(())
}

async fn moved_bulk() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cut = |lab: &Lab| {
        lab.block(0, lab.router(1).address())?;
        lab.block(1, lab.router(0).address())
    };
    let stage = Stage::set(&LabSpec::new([Nat::PortPreserving; 2]), cut).await?;
    let sent = bulk::send(|| UnixStream::connect(stage.local()));
    let sent = tokio::try_join!(sent, mend_under_way(&stage.scene.lab));
    sent.with_context(|| stage.forward.report())?;
    let programs = [("expose", &stage.expose), ("forward", &stage.forward), ("relay", &stage.relay)];
    bulk::check_memory("relayed, then direct", &programs)?;
    let relayed = stage.sent("sent_relayed_bytes").await?;
    ensure!(relayed >= BEGUN_BYTES / 2, "only {relayed} bytes began on the relay");
    let direct = stage.sent("sent_direct_bytes").await?;
    ensure!(direct > relayed, "{direct} bytes went directly, and {relayed} on the relay");
    Ok(())
}

/// Makes the direct path possible once the bulk is under way on the relay.
async fn mend_under_way(lab: &Lab) -> Result<()> {
    // The counters of the lab tell nobody when they change.
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while lab.relay_link_bytes()? < BEGUN_BYTES {
        looks.tick().await;
    }
    lab.unblock(0, lab.router(1).address())?;
    Ok(lab.unblock(1, lab.router(0).address())?)
}

/// So many bytes at the relay, in and out, are bulk and no introduction.
const BEGUN_BYTES: u64 = 4 << 20;

/// A service with a hasher behind it, exposed behind one NAT and forwarded behind another.
struct Stage {
    scene: Scene,
    relay: Program,
    expose: Program,
    forward: Program,
    directory: TempDir,
}

impl Stage {
    /// In a lab that `change` has changed before anybody runs.
    async fn set(spec: &LabSpec, change: impl FnOnce(&Lab) -> Result<(), LabError>) -> Result<Self> {
        let (directory, hasher) = (tempfile::tempdir()?, Hasher::new());
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let target = UnixListener::bind(path("target"))?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = target.accept().await {
                hasher.hear(socket);
            }
        });
        let scene = Scene::prepare(spec, Transport::Tcp).await?;
        change(&scene.lab)?;
        let relay = scene.start_relay().await?;
        let node = |host: usize, command: &str| {
            let launch = Launch::punchline(scene.lab.host(host), command)?;
            let launch = launch.args(["--identity", &path(command), "--relay", &scene.relay_address()]);
            anyhow::Ok(launch.args(["--listen", "/ip4/0.0.0.0/tcp/0"]))
        };
        let service = format!("hash=unix:{}", path("target"));
        let expose = node(0, "expose")?.args(["--service", &service, "--allow-any"]).spawn()?;
        let held = expose.wait_for("reservation_held", |_| true, SOON).await?;
        let address = held.text("address").context("an address")?.to_owned();
        let peer = address.rsplit('/').next().context("a peer")?;
        let local = format!("unix:{}", path("local"));
        let args = ["--peer", peer, "--service", "hash", "--local", &local];
        let forward = node(1, "forward")?.args(args).spawn()?;
        let relayed = |event: &Event| event.has("path", "relayed");
        forward.wait_for("connection_opened", relayed, SOON).await?;
        Ok(Self { scene, relay, expose, forward, directory })
    }

    fn local(&self) -> std::path::PathBuf {
        self.directory.path().join("local")
    }

    /// The sum of a field over all streams of the forward, once they are closed.
    async fn sent(&self, field: &str) -> Result<u64> {
        let sums = RefCell::new(BTreeMap::new());
        let last = |event: &Event| {
            let stream = event.text("stream").unwrap_or_default().to_owned();
            sums.borrow_mut().insert(stream, event.number(field).unwrap_or_default());
            sums.borrow().len() == CONNECTIONS
        };
        self.forward.wait_for("stream_closed", last, SOON).await?;
        Ok(sums.borrow().values().sum())
    }
}
