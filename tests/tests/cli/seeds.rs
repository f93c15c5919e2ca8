//! Command lines and settings of earlier programs, word by word.

use anyhow::Result;
use punchline_tests::process::{Launch, Program};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{SOON, World, refused};

/// Treats loopback as public.
const LOOPBACK: [&str; 2] = ["--assume-global", "127.0.0.0/8"];

impl World {
    /// `punchline` with a line as it stands, which is only checked.
    fn line(&self, line: &str) -> Result<Launch> {
        Ok(self.bare()?.args(line.split_whitespace()).args(["--check", "--identity", &self.text("who")]))
    }

    /// A monitor on loopback, with ports that are free, and its page.
    async fn monitor(&self, args: &[&str]) -> Result<(Program, String)> {
        let ports =
            ["--listen-addr", "127.0.0.1", "--port", "0", "--web-port", "0", "--stun-listen", "off"];
        let monitor =
            self.launch("monitor", "monitor")?.args(ports).args(LOOPBACK).args(args).spawn()?;
        let page = monitor.wait_for("page_listening", |_| true, SOON).await?;
        monitor.wait_for_text("nodes use: --bootstrap /ip4/127.0.0.1/tcp/", SOON).await?;
        Ok((monitor, page.text("address").unwrap_or_default().to_owned()))
    }
}

async fn get(address: &str, path: &str, host: &str) -> Result<(String, String)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((head.to_owned(), body.to_owned()))
}

#[tokio::test]
async fn command_lines_of_earlier_programs_are_understood_as_they_stand() -> Result<()> {
    let world = World::new()?;
    for line in [
        "monitor --listen-addr 0.0.0.0 --port 51820",
        "monitor",
        "monitor --listen-addr :: --port 9999",
        "bootstrap",
        "listen --namespace local-test --bootstrap /ip4/203.0.113.1/tcp/51820",
        "listen --bootstrap /ip4/203.0.113.1/tcp/51820 --namespace local-test",
        "dial --namespace local-test --bootstrap /ip4/203.0.113.1/tcp/51820",
        "dial --namespace local-test --bootstrap /ip6/2001:db8::1/tcp/51820",
        "server --enable-upnp --enable-hole-punching --stun-server stun.l.google.com:19302",
        "server --enable-upnp=false --enable-hole-punching=false --stun-server stun:stun.l.google.com:19302",
        "network dht-status",
        "network routing-table-size --buckets",
        "network bootstrap-health",
        "network peers",
        "network nat-status",
        "network upnp-status",
        "network hole-punch-test",
    ] {
        let output = world.line(line)?.output(SOON).await?;
        assert!(output.status.success(), "{line}: {output:?}");
    }
    let torn = world.line("server --enable-upnp --port-mapping off")?.output(SOON).await?;
    refused(&torn, 2, &["--enable-upnp and --port-mapping off contradict each other"]);
    let twice = world.line("monitor --port 4001 --relay-port 4001")?.output(SOON).await?;
    refused(&twice, 2, &["--port and --relay-port are both 4001"]);
    Ok(())
}

/// As a guide to ways without relays has it.
const NETWORK: &str = r#"
[network]
enable_autonat = true
enable_upnp = true
enable_hole_punching = true
stun_servers = [
  "stun:stun.l.google.com:19302",
  "stun:stun1.l.google.com:19302",
]
"#;

/// And where relays are not to be found by themselves.
const NO_RELAYS: &str = "
[network]
enable_autorelay = false
";

const FALLBACK: &str = r#"
[network]
enable_autorelay = false
relay_mode = "fallback"
"#;

#[tokio::test]
async fn a_network_table_of_an_earlier_program_is_read_as_it_was_meant() -> Result<()> {
    let world = World::new()?;
    let shown = async |text: &str| -> Result<(Value, String)> {
        let file = world.write("settings.toml", text)?;
        let launch = world.bare()?.args(["settings", "--show", "--json", "server", "--config", &file]);
        let output = launch.output(SOON).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let checked = world.line(&format!("server --config {file}"))?.output(SOON).await?;
        assert!(checked.status.success(), "{checked:?}");
        Ok((
            serde_json::from_slice(&output.stdout)?,
            String::from_utf8_lossy(&checked.stderr).into_owned(),
        ))
    };
    let value = |shown: &Value, key: &str| {
        let all = shown.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|setting| setting["key"] == key).map(|setting| setting["values"].clone())
    };
    let (all, warned) = shown(NETWORK).await?;
    let servers = serde_json::json!(["stun:stun.l.google.com:19302", "stun:stun1.l.google.com:19302"]);
    assert_eq!(value(&all, "stun_server"), Some(servers), "{all}");
    assert_eq!(value(&all, "enable_upnp"), Some(serde_json::json!(["true"])), "{all}");
    assert!(!warned.contains("WARN"), "{warned}");
    let (none, warned) = shown(NO_RELAYS).await?;
    assert_eq!(value(&none, "relay_mode"), Some(serde_json::json!(["coordination"])), "{none}");
    assert!(warned.contains("relays introduce peers and carry none of their streams"), "{warned}");
    let (both, warned) = shown(FALLBACK).await?;
    assert_eq!(value(&both, "relay_mode"), Some(serde_json::json!(["fallback"])), "{both}");
    assert!(warned.contains("`enable_autorelay` changes nothing"), "{warned}");
    Ok(())
}

#[tokio::test]
async fn a_monitor_shows_the_dht_under_the_names_of_earlier_ones_and_to_nobody_else() -> Result<()> {
    let world = World::new()?;
    let (monitor, page) = world.monitor(&["--namespace", "greenhouse"]).await?;
    let listening = monitor.wait_for("dht_listening", |_| true, SOON).await?;
    let at = listening.text("address").unwrap_or_default().to_owned();
    let place = format!("{at}/p2p/{}", world.peer_id("monitor").await?);
    // A second node of the DHT, so that there is something to show.
    let launch = world.launch("bootstrap", "second")?.args(LOOPBACK);
    let launch = launch.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", &place]);
    let second = launch.args(["--metrics", "127.0.0.1:0"]).spawn()?;
    second.wait_for("dht_joined", |_| true, SOON).await?;
    let json = async |path: &str| -> Result<Value> {
        let (head, body) = get(&page, path, "localhost").await?;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        Ok(serde_json::from_str(&body)?)
    };
    let state = json("/api/state").await?;
    assert_eq!(state["command"], "monitor", "{state}");
    assert_eq!(state["dht"]["namespaces"][0]["name"], "greenhouse", "{state}");
    let settings = json("/settings.json").await?;
    let said = |setting: &Value| setting["key"] == "namespace" && setting["source"] == "flag";
    assert!(settings.as_array().is_some_and(|all| all.iter().any(said)), "{settings}");
    let numbers = json("/api/metrics").await?;
    for name in [
        "connected_peers",
        "routing_table_size",
        "messages_sent",
        "messages_received",
        "connection_failures",
    ] {
        assert!(numbers[name].is_u64(), "{name}: {numbers}");
    }
    assert!(numbers["messages_received"].as_u64() > Some(0), "the second one asked: {numbers}");
    let nodes = json("/api/nodes").await?;
    assert!(nodes["peers"].is_array(), "{nodes}");
    for path in ["/api/state", "/api/metrics", "/api/nodes"] {
        let (head, _) = get(&page, path, "evil.example").await?;
        assert!(head.starts_with("HTTP/1.1 421"), "DNS rebinding, {path}: {head}");
    }
    let metrics = second.wait_for("metrics_listening", |_| true, SOON).await?;
    let told = get(metrics.text("address").unwrap_or_default(), "/metrics", "localhost").await?.1;
    assert!(told.contains("punchline_dht_running 1\n"), "{told}");
    assert!(told.contains("punchline_bootstraps{health=\"healthy\"} 1\n"), "{told}");
    let screen = world.bare()?.args(["status", "--control", &world.text("second.sock")]);
    let screen = String::from_utf8(screen.output(SOON).await?.stdout)?;
    assert!(screen.contains("DHT `main` as a server: joined"), "{screen}");
    Ok(())
}

#[tokio::test]
async fn a_monitor_whose_udp_port_is_taken_goes_on_over_tcp_and_says_by_whom_it_may_be() -> Result<()> {
    let world = World::new()?;
    let wireguard = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let port = wireguard.local_addr()?.port().to_string();
    let ports = ["--port", &port, "--relay-port", "0", "--web-port", "0", "--stun-listen", "off"];
    let launch = world.launch("monitor", "monitor")?.args(["--listen-addr", "127.0.0.1"]);
    let monitor = launch.args(ports).args(LOOPBACK).spawn()?;
    monitor.wait_for_text("most likely WireGuard has the port", SOON).await?;
    let line = format!("nodes use: --bootstrap /ip4/127.0.0.1/tcp/{port}/p2p/");
    monitor.wait_for_text(&line, SOON).await?;
    Ok(())
}
