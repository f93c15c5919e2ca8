//! The page that a node shows to browsers.

use std::path::Path;

use anyhow::{Context as _, Result};
use punchline_tests::process::Program;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::browser::Browser;
use crate::world::{LISTEN, NO_PEER, SOON, World};

/// On loopback, any port.
const PAGE: [&str; 2] = ["--page", "127.0.0.1:0"];

async fn shown_at(program: &Program) -> Result<String> {
    let listening = program.wait_for("page_listening", |_| true, SOON).await?;
    Ok(listening.text("address").context("an address")?.to_owned())
}

/// The status and the body of an answer to a browser that says `host`.
async fn get(address: &str, path: &str, host: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
    Ok((head.split(' ').nth(1).context("a status")?.parse()?, body.to_owned()))
}

/// Listens to events until one has this name.
async fn hear(address: &str, name: &str) -> Result<Value> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut lines = BufReader::new(socket).lines();
    let heard = async {
        while let Some(line) = lines.next_line().await? {
            let Some(line) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(line)?;
            if event["event"] == name {
                return Ok(event);
            }
        }
        anyhow::bail!("it ended without {name}")
    };
    timeout(SOON, heard).await?
}

#[tokio::test]
async fn a_node_shows_its_status_and_tells_its_events_to_those_who_mean_it() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &PAGE).await?;
    let address = shown_at(&server).await?;
    let _client = world.client(&relay, &[]).await?;
    let moved = hear(&address, "stream_moved").await?;
    assert_eq!(moved["to"], "direct", "{moved}");
    let (status, body) = get(&address, "/status.json", &address).await?;
    let told: Value = serde_json::from_str(&body)?;
    assert_eq!((status, &told["peers"][0]["path"]), (200, &"direct".into()), "{told}");
    let asked = world.bare()?.args(["status", "--json", "--control", &world.text("server.sock")]);
    let printed: Value = serde_json::from_slice(&asked.output(SOON).await?.stdout)?;
    let keys = |status: &Value| -> Vec<String> {
        status.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(keys(&told), keys(&printed), "it is what `status --json` prints");
    let (status, page) = get(&address, "/", "localhost").await?;
    assert!(status == 200 && page.contains("<html lang=\"en\">"), "{page}");
    assert_eq!(get(&address, "/status.json", "evil.example").await?.0, 421, "DNS rebinding");
    Ok(())
}

#[tokio::test]
async fn where_other_hosts_come_only_the_logged_address_leads_to_the_page() -> Result<()> {
    let world = World::new()?;
    let launch = world.launch("server", "server")?.args(["--listen", LISTEN]);
    let server = launch.args(["--page", "0.0.0.0:0"]).spawn()?;
    let address = shown_at(&server).await?.replace("0.0.0.0", "127.0.0.1");
    // The log has a pipe of its own, which may come later.
    let logged = async {
        loop {
            let report = server.report();
            if let Some((_, url)) = report.split_once("http://0.0.0.0:") {
                break url.split_whitespace().next().unwrap_or_default().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let said = timeout(SOON, logged).await?;
    let path = &said[said.find('/').context("a path")?..];
    assert!(path.len() == 34 && path.ends_with('/'), "{path}");
    assert_eq!(get(&address, path, &address).await?.0, 200);
    assert_eq!(get(&address, &format!("{path}status.json"), &address).await?.0, 200);
    let wrong = format!("/{}/", "0".repeat(32));
    for path in ["/", "/status.json", "/events", "/page.js", &wrong] {
        assert_eq!(get(&address, path, &address).await?.0, 404, "{path}");
    }
    let events = serde_json::to_string(
        &server.events().iter().map(|event| event.text("address")).collect::<Vec<_>>(),
    )?;
    assert!(!events.contains(path.trim_matches('/')), "it is in no event: {events}");
    Ok(())
}

#[tokio::test]
async fn a_browser_shows_the_path_that_bytes_take() -> Result<()> {
    let Some(mut browser) = Browser::start("that the page shows the path of a byte")? else {
        return Ok(());
    };
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let _server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &PAGE).await?;
    let url = format!("http://{}/", shown_at(&client).await?);
    let moved = ["relayed → direct", "Bytes go directly to the peer over TCP"];
    let drawn = ["data-path=\"direct\"", "class=\"live direct\"", "data-health=\"healthy\""];
    browser.page(&url, &[moved.as_slice(), &drawn].concat()).await?;
    Ok(())
}

const HOSTILE: &str =
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

#[tokio::test]
async fn the_demo_is_shown_to_this_machine_alone() -> Result<()> {
    let world = World::new()?;
    let output = world.quiet("demo", "unused")?.args(["--page", "0.0.0.0:0"]).output(SOON).await?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("other hosts reach it; say 127.0.0.1"), "{said}");
    Ok(())
}

/// A node that is all lies, and says nothing to keep a browser from believing them.
async fn lie(socket: TcpStream) -> Result<()> {
    let mut socket = BufReader::new(socket);
    let mut request = String::new();
    socket.read_line(&mut request).await?;
    let name = request.split(' ').nth(1).context("a path")?.trim_start_matches('/');
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/src/page");
    let (kind, body) = match name {
        "status.json" => ("application/json", status_of_lies().to_string()),
        "events" => ("text/event-stream", events_of_lies()),
        "" => ("text/html", std::fs::read_to_string(files.join("page.html"))?),
        "page.css" => ("text/css", std::fs::read_to_string(files.join(name))?),
        "page.js" | "fill.js" | "node.js" | "relay.js" | "story.js" | "draw.js" => {
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
    json!({
        "peer": HOSTILE, "version": HOSTILE, "command": HOSTILE, "uptime_seconds": 1.0, "listening": [HOSTILE],
        "candidates": [], "nat": HOSTILE, "nat_v6": HOSTILE, "relays": [relay], "peers": [peer, other], "streams": [],
        "hindrance": HOSTILE,
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
    format!("data: {moved}\n\ndata: {failed}\n\n")
}

#[tokio::test]
async fn what_peers_say_is_text_and_never_markup() -> Result<()> {
    let Some(mut browser) = Browser::start("that what peers say is never markup")? else {
        return Ok(());
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let lying = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(lie(socket));
        }
    });
    let page = browser.page(&url, &["no direct path", "Bytes go through a relay"]).await?;
    lying.abort();
    assert!(page.matches("&lt;img src=x").count() > 10, "the lies are shown: {page}");
    assert!(!page.contains("<img") && page.matches("<script").count() == 1, "as text: {page}");
    assert!(!page.contains("owned</title>"), "{page}");
    Ok(())
}
