//! Networks that little gets out of: HTTPS alone, or nothing but what a proxy lets through.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{self, Egress, Lab, LabSpec, Namespace, Nat};
use punchline_tests::process::{Event, Launch, Program};
use punchline_tests::scene::{Cast, Scene, Transport, same_load};

use crate::{
    dns::{self, NAME},
    world::{SOON, World},
};

/// A lab with a relay that has three addresses, and behind each router a node that is to meet the other at it.
struct Web {
    world: World,
    lab: Lab,
    relay_id: String,
    server_id: String,
}

impl Web {
    async fn new(spec: &LabSpec) -> Result<Self> {
        let world = World::new()?;
        let (relay_id, server_id) = (world.peer_id("relay").await?, world.peer_id("server").await?);
        Ok(Self { world, lab: Lab::build(spec)?, relay_id, server_id })
    }

    /// Listens over TCP and QUIC at port 4001 and on a WebSocket at port `web`.
    async fn relay(&self, web: u16) -> Result<Program> {
        let ip = self.lab.relay().address();
        let mut launch = self.world.launch(self.lab.relay(), "relay", "relay")?;
        for suffix in ["tcp/4001", "udp/4001/quic-v1", &format!("tcp/{web}/tls/ws")] {
            let address = format!("/ip4/{ip}/{suffix}");
            launch = launch.args(["--listen", &address, "--external", &address]);
        }
        let relay = launch.spawn()?;
        let last = |event: &Event| event.text("address").is_some_and(|address| address.ends_with("/ws"));
        relay.wait_for("listening", last, SOON).await?;
        Ok(relay)
    }

    /// All addresses of the relay, the best last.
    fn addresses(&self) -> Vec<String> {
        let ip = self.lab.relay().address();
        let suffixes = ["tcp/443/tls/ws", "udp/4001/quic-v1", "tcp/4001"];
        suffixes.map(|suffix| format!("/ip4/{ip}/{suffix}/p2p/{}", self.relay_id)).to_vec()
    }

    fn node(&self, index: usize, command: &str, relays: &[String]) -> Result<Launch> {
        let launch = self.world.launch(self.lab.host(index), command, command)?;
        Ok(launch.args(["--network", "simnet"]).args(relays.iter().flat_map(|relay| ["--relay", relay])))
    }

    fn server(&self, relays: &[String]) -> Result<Launch> {
        self.node(0, "server", relays)
    }

    fn client(&self, relays: &[String]) -> Result<Launch> {
        let launch = self.node(1, "client", relays)?;
        Ok(launch.args(["--peer", &self.server_id, "--load-mib", "1"]))
    }
}

/// Server and client have nothing but port 443 over TCP. They meet at the relay's WebSocket, which is found soon, and
/// are told why they stay there.
pub(crate) async fn https_alone() -> Result<()> {
    let mut spec = LabSpec::new([Nat::PortPreserving; 2]);
    for router in &mut spec.routers {
        router.egress = Egress::Https;
    }
    let web = Web::new(&spec).await?;
    let _relay = web.relay(443).await?;
    let server = web.server(&web.addresses())?.spawn()?;
    let held = server.wait_for("reservation_held", |_| true, FOUND_DEADLINE).await;
    held.with_context(|| server.report())?;
    let blocks = server.wait_for("network_blocks", |_| true, SOON).await;
    let blocks = blocks.with_context(|| server.report())?;
    ensure!(blocks.text("what").is_some_and(|what| what.contains("UDP")), "{blocks}");
    let client = web.client(&web.addresses())?.spawn()?;
    meet_over_websockets(&server, &client).await?;
    for program in [&server, &client] {
        let failed = program.wait_for("upgrade_failed", |_| true, SOON).await;
        let failed = failed.with_context(|| program.report())?;
        let reason = failed.text("reason").unwrap_or_default();
        ensure!(reason.contains("over WebSockets alone"), "{reason}");
    }
    Ok(())
}

/// The server's network lets nothing out over UDP: that is said, and the session becomes direct over TCP.
pub(crate) async fn udp_blocked() -> Result<()> {
    let mut spec = LabSpec::new([Nat::PortPreserving; 2]);
    spec.routers[0].egress = Egress::NoUdp;
    let scene = Scene::prepare_over(&spec, &[Transport::Tcp, Transport::Quic]).await?;
    let cast = Cast::start(&scene, &[]).await?;
    let blocks = cast.server.wait_for("network_blocks", |_| true, SOON).await?;
    ensure!(blocks.text("what").is_some_and(|what| what.contains("UDP seems")), "{blocks}");
    let direct = |event: &Event| event.has("transport", "tcp");
    cast.both("upgrade_succeeded", direct, SOON).await?;
    let said = cast.client.events();
    ensure!(!said.iter().any(|event| event.name() == "network_blocks"), "{}", cast.client.report());
    Ok(())
}

async fn meet_over_websockets(server: &Program, client: &Program) -> Result<()> {
    for program in [server, client] {
        for path in ["direct", "relayed"] {
            let so = |event: &Event| event.has("path", path) && event.has("transport", "websocket");
            let opened = program.wait_for("connection_opened", so, SOON).await;
            opened.with_context(|| program.report())?;
        }
    }
    let arrived = server.wait_for("load_done", |_| true, SOON).await;
    let arrived = arrived.with_context(|| server.report())?;
    let sent = client.wait_for("load_done", |_| true, SOON).await?;
    ensure!(same_load(&arrived, &sent, 1) && sent.has("path", "relayed"), "{arrived} {sent}");
    Ok(())
}

/// Nothing is forwarded for them, not even questions to a name server: they have the proxy on their router. One is named
/// by a flag, with a password, one by the system's variable.
pub(crate) async fn proxy_alone() -> Result<()> {
    let web = Web::new(&LabSpec::new([Nat::PortPreserving; 2])).await?;
    let (relay, internet) = (web.lab.relay().address(), web.lab.internet().address());
    dns::serve(web.lab.internet(), vec![(NAME, dns::Record::Address(relay.into()))])?;
    let folder = tempfile::tempdir()?;
    let mut proxies = Vec::new();
    for (index, extra) in [(0, "BasicAuth ann sesame\n"), (1, "")] {
        for other in [relay, internet, web.lab.router(1 - index).address()] {
            web.lab.block(index, other)?;
        }
        let router = web.lab.router(index);
        router.resolv_conf(&format!("nameserver {internet}\n"))?;
        web.lab.host(index).resolv_conf("")?;
        proxies.push(start_proxy(router, index, extra, folder.path()).await?);
    }
    let dialled = web.lab.host(0).within(|| {
        TcpStream::connect_timeout(&SocketAddr::from((relay, 443)), Duration::from_millis(500))
    })?;
    ensure!(dialled.is_err(), "the host has more than its proxy");

    let _relay = web.relay(443).await?;
    let by_name = [format!("/dns4/{NAME}/tcp/443/tls/ws/p2p/{}", web.relay_id)];
    let server =
        web.server(&by_name)?.args(["--proxy", "http://ann:sesame@192.168.1.1:8888"]).spawn()?;
    let held = server.wait_for("reservation_held", |_| true, SOON).await;
    held.with_context(|| server.report() + &proxies[0].report())?;
    let client = web.client(&by_name)?.env("HTTPS_PROXY", "http://192.168.2.1:8888").spawn()?;
    meet_over_websockets(&server, &client).await?;
    ensure!(!server.report().contains("sesame"), "the password is in what the server prints");
    Ok(())
}

/// What a real proxy says when it may not, and to whom it does not know.
pub(crate) async fn proxy_refuses() -> Result<()> {
    let web = Web::new(&LabSpec::new([Nat::PortPreserving; 2])).await?;
    let folder = tempfile::tempdir()?;
    let _proxy = start_proxy(web.lab.router(0), 0, "BasicAuth ann sesame\n", folder.path()).await?;
    let ip = web.lab.relay().address();
    let relay = |port: u16| [format!("/ip4/{ip}/tcp/{port}/tls/ws/p2p/{}", web.relay_id)];
    for (user, port, wanted) in [
        ("", 443, "wants a user and a password (407)"),
        ("ann:wrong@", 443, "does not take this user and password (401)"),
        ("ann:sesame@", 8443, "forbids connections to 73.0.0.2:8443 (403)"),
        ("ann:sesame@", 443, "cannot reach 73.0.0.2:443 (500)"),
    ] {
        let url = format!("http://{user}192.168.1.1:8888");
        let mut server = web.server(&relay(port))?.env("PUNCHLINE_PROXY", url).spawn()?;
        let failed = server.wait_for("reservation_failed", |_| true, SOON).await;
        let failed = failed.with_context(|| server.report())?;
        let cause = failed.text("cause").unwrap_or_default();
        ensure!(cause.contains(wanted), "{cause}");
        ensure!(!server.report().contains("sesame") && !server.report().contains("wrong"));
        server.terminate(SOON).await?;
    }
    Ok(())
}

/// On a router, for its hosts alone; it connects to port 443 and no other.
async fn start_proxy(router: &Namespace, index: usize, extra: &str, folder: &Path) -> Result<Program> {
    let gateway = format!("192.168.{}.1", index + 1);
    let settings =
        format!("Listen {gateway}\nPort 8888\nTimeout 600\nMaxClients 20\nConnectPort 443\n{extra}");
    let file = folder.join(format!("proxy{index}"));
    fs::write(&file, settings)?;
    let proxy =
        Launch::program(router, TINYPROXY).args(["-d".as_ref(), "-c".as_ref(), file.as_os_str()]);
    let proxy = proxy.spawn()?;
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let listens = async {
        let at: SocketAddr = format!("{gateway}:8888").parse()?;
        while router.within(|| TcpStream::connect(at))?.is_err() {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, listens).await.with_context(|| proxy.report())??;
    Ok(proxy)
}

/// Why there can be no proxy.
pub(crate) fn no_tinyproxy() -> Option<String> {
    if let Err(missing) = lab::capability() {
        return Some(missing.to_string());
    }
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(TINYPROXY).is_file());
    (!found).then(|| format!("there is no {TINYPROXY}: install tinyproxy-bin"))
}

/// The program of Debian's package tinyproxy-bin.
const TINYPROXY: &str = "tinyproxy";

/// Promised: a relay with several addresses is found by the one that works, without waiting for the others' deadlines.
/// Starting the program on a busy machine is in it.
const FOUND_DEADLINE: Duration = Duration::from_secs(5);
