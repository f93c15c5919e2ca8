//! The 160-bit network: peers that find each other by it, and BitTorrent clients of others that share it with our nodes.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Nat},
    ports::free_port,
    process::{Launch, Place, Program, binary},
    scene::{Scene, Transport},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::{
    lan,
    world::{SOON, World},
};

/// A torrent that nobody has.
const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// Clients of others look around in their own time.
pub(crate) const CLIENT: Duration = Duration::from_secs(120);

/// Where the network begins: a node at this address.
fn begin<'lab>(place: impl Into<Place<'lab>>, listen: &str) -> Result<Program> {
    let launch = Launch::program(place, binary("punchline")?);
    Ok(launch.args(["dht", "start", "--json", "--mainline-listen", listen]).spawn()?)
}

/// At the relay's machine; and how others join there.
pub(crate) async fn begin_at(scene: &Scene) -> Result<(Program, [String; 2])> {
    let first = begin(scene.lab.relay(), "0.0.0.0:6881")?;
    first.wait_for("started", |_| true, SOON).await?;
    let way_in = format!("{}:6881", scene.lab.relay().address());
    Ok((first, ["--mainline-bootstrap".to_owned(), way_in]))
}

/// Behind two NATs; all that the one who seeks knows is an id, and where the network is joined.
pub(crate) async fn by_id_alone() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving, Nat::PortPreserving]);
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let (first, joins) = begin_at(&scene).await?;
    let reserves = [joins.clone(), ["--relay".to_owned(), scene.relay_address()]].concat();
    let (expose, peer) = lan::expose(&world, scene.lab.host(0), &reserves).await?;
    let ways = [&joins[..], &["--pkarr".to_owned(), "off".to_owned()]].concat();
    let forward = lan::forward(&world, scene.lab.host(1), &peer, &ways)?;
    let found = async {
        expose.wait_for("reservation_held", |_| true, SOON).await?;
        let found = forward.wait_for("peer_found", |event| event.has("peer", &peer), CLIENT).await?;
        ensure!(found.has("source", "mainline"), "{found}");
        lan::echoes(&world).await?;
        let direct = |event: &punchline_tests::process::Event| {
            event.has("peer", &peer) && event.has("path", "direct")
        };
        forward.wait_for("connection_opened", direct, SOON).await?;
        Ok(())
    };
    found.await.with_context(|| [&relay, &first, &expose, &forward].map(Program::report).concat())
}

pub(crate) fn no_aria2() -> Option<String> {
    let there = Command::new("aria2c").arg("--version").stdout(Stdio::null()).status();
    (!there.is_ok_and(|status| status.success())).then(|| "there is no aria2c; install aria2".to_owned())
}

pub(crate) fn no_libtorrent() -> Option<String> {
    let there = Command::new(PYTHON).args(["-c", "import libtorrent"]).stderr(Stdio::null()).status();
    (!there.is_ok_and(|status| status.success()))
        .then(|| "Python has no libtorrent; install python3-libtorrent".to_owned())
}

/// Debian's, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

/// Shares one network with a client: our node announces a port, and the client calls there; it announces its own, and our
/// node finds it. `client`: what starts it, from where the network is joined, and its own port.
async fn shares_with(client: impl FnOnce(&World, &str, u16) -> Launch) -> Result<()> {
    let world = World::new()?;
    let way_in = free_port(Ipv4Addr::LOCALHOST)?.to_string();
    let first = begin(Place::Host, &way_in)?;
    first.wait_for("started", |_| true, SOON).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = listener.local_addr()?;
    let announced = ask(&way_in, &["announce", HASH, "--port", &ours.port().to_string()]).await?;
    ensure!(announced["nodes"] == 1, "{announced}");
    let theirs = free_port(Ipv4Addr::LOCALHOST)?;
    let client = client(&world, &way_in, theirs.port()).spawn()?;
    let theirs = theirs.to_string();
    let shared = async {
        let called =
            timeout(CLIENT, listener.accept()).await.context("it does not find what we announced")?;
        ensure!(called?.1.ip().is_loopback());
        first.wait_for("node_discovered", |_| true, SOON).await?;
        let until = Instant::now() + CLIENT;
        loop {
            let asked = first.mark();
            let found = ask(&way_in, &["find-peers", HASH]).await?;
            let peers = found["peers"].as_array().context("peers")?;
            if peers.iter().any(|peer| peer.as_str() == Some(&theirs)) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "what it announced is not found: {found}");
            first.wait_for_after(asked, "data_stored", |_| true, CLIENT).await?;
        }
    };
    shared.await.with_context(|| [&first, &client].map(Program::report).concat())
}

/// What a node says that joins, asks and ends.
async fn ask(way_in: &str, what: &[&str]) -> Result<Value> {
    let launch = Launch::program(Place::Host, binary("punchline")?).args(["dht"]).args(what);
    let output = launch
        .args(["--json", "--mainline-listen", "127.0.0.1:0", "--mainline-bootstrap", way_in])
        .output(SOON)
        .await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) async fn with_aria2() -> Result<()> {
    shares_with(|world, way_in, port| {
        let (port, folder) = (port.to_string(), world.identity("downloads"));
        let settings = [
            "--no-conf".to_owned(),
            "--enable-dht=true".to_owned(),
            format!("--dht-entry-point={way_in}"),
            format!("--dht-listen-port={port}"),
            format!("--dht-file-path={folder}/dht.dat"),
            format!("--listen-port={port}"),
            format!("--dir={folder}"),
            "--interface=127.0.0.1".to_owned(),
            format!("magnet:?xt=urn:btih:{HASH}"),
        ];
        Launch::program(Place::Host, "aria2c").args(settings)
    })
    .await
}

/// Its transactions have two bytes.
pub(crate) async fn with_libtorrent() -> Result<()> {
    const CLIENT: &str = "
import libtorrent, sys, time
way_in, port, folder, hash = sys.argv[1:]
session = libtorrent.session({
    'listen_interfaces': '127.0.0.1:' + port, 'dht_bootstrap_nodes': way_in, 'enable_dht': True, 'enable_lsd': False,
    'enable_upnp': False, 'enable_natpmp': False, 'dht_restrict_routing_ips': False, 'dht_restrict_search_ips': False})
torrent = libtorrent.parse_magnet_uri('magnet:?xt=urn:btih:' + hash)
torrent.save_path = folder
torrent = session.add_torrent(torrent)
while True:
    time.sleep(5)
    torrent.force_dht_announce()
";
    shares_with(|world, way_in, port| {
        let (port, folder) = (port.to_string(), world.identity("downloads"));
        Launch::program(Place::Host, PYTHON).args(["-c", CLIENT, way_in, &port, &folder, HASH])
    })
    .await
}
