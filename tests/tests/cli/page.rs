//! The page that a node shows to browsers.

use anyhow::{Context as _, Result};
use punchline_tests::process::Program;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{LISTEN, SOON, World, refused};

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
    server.wait_for_text("http://0.0.0.0:", SOON).await?;
    let report = server.report();
    let (_, url) = report.split_once("http://0.0.0.0:").context("an address")?;
    let said = url.split_whitespace().next().unwrap_or_default();
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
async fn the_demo_is_shown_to_this_machine_alone() -> Result<()> {
    let world = World::new()?;
    let output = world.quiet("demo", "unused")?.args(["--page", "0.0.0.0:0"]).output(SOON).await?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("other hosts reach it; say 127.0.0.1"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_relay_shows_itself_and_a_node_tries_again_when_it_is_told_to() -> Result<()> {
    let world = World::new()?;
    let (relay, address) = world.relay(&PAGE).await?;
    let shown = shown_at(&relay).await?;
    let (status, body) = get(&shown, "/status.json", "localhost").await?;
    let told: Value = serde_json::from_str(&body)?;
    assert_eq!((status, &told["relaying"]["reservations"]), (200, &0.into()), "{told}");
    let server = world.server(&address, &[]).await?;
    let retry = |args: &[&str]| {
        let control = world.text("server.sock");
        anyhow::Ok(world.bare()?.args(["retry", "--control", &control]).args(args))
    };
    let tried = retry(&["--json"])?.output(SOON).await?;
    assert!(String::from_utf8_lossy(&tried.stdout).contains(r#""relays":0"#), "{tried:?}");
    refused(&retry(&[])?.output(SOON).await?, 1, &["tried a moment ago; again in"]);
    refused(&retry(&["nobody"])?.output(SOON).await?, 2, &["nobody"]);
    let control = world.text("relay.sock");
    let relays = world.bare()?.args(["retry", "--control", &control]).output(SOON).await?;
    refused(&relays, 1, &["a relay dials nobody"]);
    drop((relay, server));
    Ok(())
}
