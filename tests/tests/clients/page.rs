//! The page that nodes and relays show, in a browser that nobody here wrote.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Launch, Place, Program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::browser::Browser;
use crate::world::{ANY, SOON, id};

/// A relay, a server behind it and a client of that, each with a page.
struct Shown {
    relay: Program,
    client: Program,
    _server: Program,
    _directory: TempDir,
}

impl Shown {
    async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let start = |command: &str, args: &[&str]| {
            let identity = directory.path().join(command);
            let launch = Launch::punchline(Place::Host, command)?.args(["--page", ANY]);
            let launch = launch.args(["--listen", "/ip4/127.0.0.1/tcp/0"]).args(args);
            launch.args(["--identity", &identity.to_string_lossy()]).spawn()
        };
        let relay = start("relay", &["--external", "auto", "--assume-global", "127.0.0.0/8"])?;
        let listening = relay.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").context("an address")?;
        let address = format!("{address}/p2p/{}", id(&directory, "relay").await?);
        let server = start("server", &["--relay", &address])?;
        server.wait_for("reservation_held", |_| true, SOON).await?;
        let peer = id(&directory, "server").await?;
        let client = start("client", &["--relay", &address, "--peer", &peer])?;
        Ok(Self { relay, client, _server: server, _directory: directory })
    }
}

async fn url(program: &Program) -> Result<String> {
    let listening = program.wait_for("page_listening", |_| true, SOON).await?;
    Ok(format!("http://{}/", listening.text("address").context("an address")?))
}

pub(crate) async fn the_path_of_a_byte() -> Result<()> {
    let mut browser = Browser::start()?;
    let shown = Shown::start().await?;
    let moved = ["relayed → direct", "Bytes go directly to the peer over TCP"];
    let drawn = ["data-path=\"direct\"", "class=\"live direct\"", "data-health=\"healthy\""];
    browser.page(&url(&shown.client).await?, &[moved.as_slice(), &drawn].concat()).await?;
    Ok(())
}

pub(crate) async fn a_relay() -> Result<()> {
    let mut browser = Browser::start()?;
    let shown = Shown::start().await?;
    let held = ["1 peer can be reached through this relay", "reservations", "1 of 1024"];
    browser.page(&url(&shown.relay).await?, &held).await?;
    Ok(())
}

pub(crate) async fn the_dht_of_a_monitor() -> Result<()> {
    let mut browser = Browser::start()?;
    let directory = tempfile::tempdir()?;
    let start = |command: &str, args: &[&str]| {
        let identity = directory.path().join(command);
        let launch = Launch::punchline(Place::Host, command)?.args(args);
        let launch = launch.args(["--assume-global", "127.0.0.0/8"]);
        launch.args(["--identity", &identity.to_string_lossy()]).spawn()
    };
    let ports = ["--port", "0", "--web-port", "0", "--stun-listen", "off", "--namespace", "greenhouse"];
    let monitor = start("monitor", &[&["--listen-addr", "127.0.0.1"], &ports[..]].concat())?;
    let listening = monitor.wait_for("dht_listening", |_| true, SOON).await?;
    let address = listening.text("address").context("an address")?;
    let begin = format!("{address}/p2p/{}", id(&directory, "monitor").await?);
    let at = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", &begin];
    let server = start("server", &[&at[..], &["--namespace", "greenhouse"]].concat())?;
    server.wait_for("dht_joined", |_| true, SOON).await?;
    let shown = [
        "This node is the first of the DHT “main”",
        "Nodes in the table",
        "greenhouse",
        "1 peer announced under this key",
        "Nobody is behind this relay",
    ];
    browser.page(&url(&monitor).await?, &shown).await?;
    Ok(())
}

pub(crate) async fn a_button_by_keyboard() -> Result<()> {
    let mut browser = Browser::start()?;
    let shown = Shown::start().await?;
    let direct = ["Bytes go directly to the peer over TCP"];
    browser.page(&url(&shown.client).await?, &direct).await?;
    browser.press("Tab", "").await?;
    browser.press("Enter", "\r").await?;
    browser.look(&["Nothing was waiting for its next attempt."]).await?;
    Ok(())
}

const HOSTILE: &str =
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

/// Nobody.
const NO_PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// A node that is all lies, and says nothing to keep a browser from believing them.
async fn lie(socket: TcpStream, status: Value) -> Result<()> {
    let mut socket = BufReader::new(socket);
    let mut request = String::new();
    socket.read_line(&mut request).await?;
    let name = request.split(' ').nth(1).context("a path")?.trim_start_matches('/');
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/src/page");
    let (kind, body) = match name {
        "status.json" => ("application/json", status.to_string()),
        "events" => ("text/event-stream", events_of_lies()),
        "" => ("text/html", std::fs::read_to_string(files.join("page.html"))?),
        "page.css" => ("text/css", std::fs::read_to_string(files.join(name))?),
        name if name.ends_with(".js") && !name.contains('/') => {
            ("text/javascript", std::fs::read_to_string(files.join(name))?)
        }
        _ => ("text/plain", String::new()),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close",
        body.len()
    );
    socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
    Ok(())
}

fn status_of_lies() -> Value {
    let relay = json!({
        "relay": HOSTILE, "addresses": [HOSTILE], "state": HOSTILE, "transport": HOSTILE, "health": HOSTILE,
        "last_error": HOSTILE, "failures": 1, "wanted": true,
    });
    let peer = json!({
        "peer": NO_PEER, "path": "relayed", "relay": HOSTILE, "transport": HOSTILE, "address": HOSTILE,
        "why_relayed": HOSTILE, "streams": 1, "connections": [], "sent_direct_bytes": 0, "sent_relayed_bytes": 0,
        "received_direct_bytes": 0, "received_relayed_bytes": 0,
    });
    let other = json!({ "peer": HOSTILE, "path": HOSTILE, "transport": HOSTILE, "address": HOSTILE });
    let dht = json!({
        "network": HOSTILE, "mode": HOSTILE, "joined": true, "buckets": [{ "index": 255, "nodes": 1 }], "listening": [HOSTILE],
        "bootstraps": [{ "address": HOSTILE, "health": HOSTILE, "failures": 1 }], "records": 1, "content": 0, "providers": 1,
        "refused": [{ "what": HOSTILE, "count": 1 }], "denied": [], "lookups_found": 1, "lookups_missed": 1,
        "requests_sent": 1, "requests_received": 1, "sent_per_second": 1.0, "received_per_second": 1.0, "dials_failed": 0,
        "namespaces": [{ "name": HOSTILE, "hash": HOSTILE, "joined": true, "members": 1 }],
        "announced": [{ "hash": HOSTILE, "peers": 1 }],
    });
    json!({
        "peer": HOSTILE, "version": HOSTILE, "command": HOSTILE, "uptime_seconds": 1.0, "listening": [HOSTILE],
        "candidates": [], "nat": HOSTILE, "nat_v6": HOSTILE, "relays": [relay], "peers": [peer, other], "streams": [],
        "hindrance": HOSTILE, "dht": dht,
    })
}

fn relay_of_lies() -> Value {
    let relaying = json!({
        "external": [HOSTILE], "stun": [HOSTILE], "connections": HOSTILE, "reservations": HOSTILE, "kept": 0, "circuits": 1,
        "circuits_waiting": 0, "received_bytes": 1, "sent_bytes": 1, "forwarded_bytes": 1,
    });
    json!({
        "peer": HOSTILE, "version": HOSTILE, "command": HOSTILE, "uptime_seconds": 1.0, "listening": [HOSTILE],
        "limits": [{ "what": HOSTILE, "used": 1, "limit": 2 }], "relaying": relaying, "hindrance": HOSTILE,
        "relays": [], "peers": [], "streams": [],
    })
}

fn events_of_lies() -> String {
    let ts = jiff::Timestamp::now().to_string();
    let moved = json!({
        "ts": ts, "event": "stream_moved", "peer": NO_PEER, "stream": HOSTILE, "from": HOSTILE, "to": HOSTILE,
        "gap_ms": 1.5, "cause": HOSTILE,
    });
    let failed = json!({
        "ts": ts, "event": "upgrade_failed", "peer": NO_PEER, "reason": HOSTILE, "remote_nat": HOSTILE,
    });
    let refused = json!({ "ts": ts, "event": "refused", "what": HOSTILE, "whose": HOSTILE, "count": 1 });
    let cut = json!({ "ts": ts, "event": "circuit_closed", "source": HOSTILE, "cause": HOSTILE });
    let awaits = json!([{ "stage": "dial", "addresses": 2 }, { "stage": HOSTILE }]);
    let waiting = json!({
        "ts": ts, "event": "waiting", "peer": NO_PEER, "waited_ms": 10_000, "awaits": awaits,
    });
    let unnamed = json!({ "ts": ts, "event": "relay_name_failed", "name": HOSTILE, "cause": HOSTILE });
    let events = [moved, failed, refused, cut, waiting, unnamed];
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

pub(crate) async fn what_peers_say_is_text() -> Result<()> {
    let waits = ["still waiting", "for 10 s: an answer at its addresses, &lt;img"];
    let named = ["the name of relays cannot be looked up", "announced under this key"];
    let wanted = [&["no direct path", "Bytes go through a relay"][..], &waits, &named].concat();
    shows_lies(status_of_lies(), &wanted).await
}

pub(crate) async fn what_clients_of_a_relay_say_is_text() -> Result<()> {
    shows_lies(relay_of_lies(), &["a circuit was cut", "turned away by the limit of"]).await
}

/// Whatever is said, it is shown as text.
async fn shows_lies(status: Value, wanted: &[&str]) -> Result<()> {
    let mut browser = Browser::start()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let lying = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(lie(socket, status.clone()));
        }
    });
    let page = browser.page(&url, wanted).await?;
    lying.abort();
    ensure!(page.matches("&lt;img src=x").count() > 5, "the lies are shown: {page}");
    ensure!(!page.contains("<img") && page.matches("<script").count() == 1, "as text: {page}");
    ensure!(!page.contains("owned</title>"), "{page}");
    Ok(())
}
