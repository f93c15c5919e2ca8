//! What the doctor says of this host, of relays that are well, and of those that are not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::Launch;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

/// The doctor's promise is about 10 s.
const BOUND: Duration = Duration::from_secs(15);

impl World {
    /// A doctor who knows nothing but what is said here, and leaves the router alone.
    fn doctor(&self, args: &[&str]) -> Result<Launch> {
        let launch = self.quiet("doctor", "own")?.args(["--port-mapping", "off"]).args(args);
        Ok(without_proxy(launch).env("XDG_STATE_HOME", self.text("state")))
    }

    async fn reach(&self, address: &str) -> Result<Output> {
        let launch = without_proxy(self.bare()?).args(["doctor", "reach", address]);
        Ok(launch.output(BOUND).await?)
    }
}

/// The proxy of whoever runs the tests leads nowhere here.
fn without_proxy(launch: Launch) -> Launch {
    let names = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];
    names.into_iter().fold(launch, |launch, name| launch.env(name, ""))
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

fn check<'a>(said: &'a Value, name: &str) -> Result<&'a Value> {
    let mut checks = said["checks"].as_array().into_iter().flatten();
    checks.find(|check| check["check"] == name).with_context(|| format!("no check {name}: {said}"))
}

/// The name of everything that is checked is a contract.
const CHECKS: [&str; 17] = [
    "clock",
    "dns",
    "hairpin",
    "identity",
    "ipv4",
    "ipv6",
    "listen",
    "mtu",
    "nat",
    "open_files",
    "port_443",
    "port_mapping",
    "proxy",
    "relay",
    "state_directory",
    "tcp",
    "udp",
];

#[tokio::test]
async fn with_a_relay_that_is_well_nothing_is_bad_and_peers_are_expected_direct() -> Result<()> {
    let world = World::new()?;
    let stun = ["--stun-listen", "127.0.0.1:0"];
    let (running, relay) = world.relay(&stun).await?;
    let listens = running.wait_for("stun_listening", |_| true, SOON).await?;
    let at = listens.text("address").context("an address")?.to_owned();
    let server = at.trim_start_matches("/ip4/").replace("/udp/", ":");
    world.peer_id("own").await?;
    let args = ["--relay", &relay, "--stun-server", &server, "--json"];
    let output = world.doctor(&args)?.output(BOUND).await?;
    let said = json(&output)?;
    // Whoever has no way out at all, as in a sandbox, is told so, and of nothing else.
    let has_way_out = check(&said, "ipv4")?["verdict"] != "bad";
    ensure!(output.status.success() == has_way_out, "{said}");
    let names: BTreeSet<_> = said["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|check| check["check"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(CHECKS), "{said}");
    for name in
        ["relay", "udp", "tcp", "proxy", "nat", "hairpin", "clock", "identity", "state_directory"]
    {
        assert_eq!(check(&said, name)?["verdict"], "ok", "{said}");
    }
    assert_eq!((&said["version"], &said["bad"]), (&1.into(), &u8::from(!has_way_out).into()));
    let kind = said["expect"]["kind"].as_str().unwrap_or_default();
    assert!(kind.starts_with("direct_with_"), "{said}");
    let screen = world.doctor(&args[..4])?.output(BOUND).await?;
    let screen = String::from_utf8(screen.stdout)?;
    assert!(screen.contains("ok       relay            /ip4/127.0.0.1/tcp/"), "{screen}");
    assert!(
        screen.lines().last().is_some_and(|last| last.starts_with("expect: direct with ")),
        "{screen}"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_relay_it_says_what_needs_one_and_that_of_a_running_node_will_do() -> Result<()> {
    let world = World::new()?;
    let alone = json(&world.doctor(&["--json"])?.output(BOUND).await?)?;
    assert_eq!(alone["expect"]["kind"], "not_known", "{alone}");
    let udp = check(&alone, "udp")?;
    assert!(udp["verdict"] == "skipped" && udp["advice"].to_string().contains("--relay"), "{udp}");
    let (_relay, relay) = world.relay(&[]).await?;
    let _server = world.server(&relay, &[]).await?;
    let asked = world.doctor(&["--json", "--control", &world.text("server.sock")])?;
    let asked = json(&asked.output(BOUND).await?)?;
    let found = check(&asked, "relay")?;
    assert_eq!(
        (&found["subject"], &found["verdict"]),
        (&relay.as_str().into(), &"ok".into()),
        "{asked}"
    );
    Ok(())
}

#[tokio::test]
async fn of_a_node_that_forwards_the_relays_are_asked_that_were_named_and_not_that_of_its_ticket()
-> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    world.peer_id("expose").await?;
    let new = ["new", "--service", "web", "--relay", &relay];
    let ticket = world.quiet("ticket", "expose")?.args(new).output(SOON).await?;
    let ticket = String::from_utf8(ticket.stdout)?;
    let forward = world.launch("forward", "forward")?.args(["--ticket", ticket.trim()]);
    let forward = forward.args(["--listen", LISTEN, "--local", "127.0.0.1:0", "--relay", NO_RELAY]);
    let forward = forward.spawn()?;
    forward.wait_for("forward_listening", |_| true, SOON).await?;
    let asked = world.doctor(&["--json", "--control", &world.text("forward.sock")])?;
    let said = json(&asked.output(BOUND).await?)?;
    let relays = said["checks"].as_array().into_iter().flatten();
    let relays: Vec<_> = relays.filter(|check| check["check"] == "relay").collect();
    assert_eq!(relays.iter().map(|check| &check["subject"]).collect::<Vec<_>>(), [NO_RELAY], "{said}");
    Ok(())
}

#[tokio::test]
async fn what_a_range_denies_is_not_tried() -> Result<()> {
    let world = World::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let relay = NO_RELAY.replace("/tcp/1/", &format!("/tcp/{}/", listener.local_addr()?.port()));
    let output = world.doctor(&["--relay", &relay, "--deny-net", "127.0.0.0/8"])?.output(BOUND).await?;
    refused(&output, 1, &["TCP fails: --deny-net or --net-file keeps 127.0.0.1 away"]);
    let nobody = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(nobody.is_err(), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_all_programs_are_told_of_is_looked_at() -> Result<()> {
    let world = World::new()?;
    let output =
        world.doctor(&["--json"])?.env("HTTPS_PROXY", "http://127.0.0.1:1").output(BOUND).await?;
    let said = json(&output)?;
    let proxy = check(&said, "proxy")?;
    ensure!(proxy["verdict"] == "bad" && proxy["found"].to_string().contains("127.0.0.1:1"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_relay_with_another_identity_is_bad_and_both_are_named() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let id = world.peer_id("relay").await?;
    let wrong = relay.replace(&id, NO_PEER);
    let output = world.doctor(&["--relay", &wrong])?.output(BOUND).await?;
    let answers = format!("identity fails: {id} answers there, and {NO_PEER} was wanted");
    refused(&output, 1, &["relay: ", &answers]);
    refused(&world.reach(&wrong).await?, 1, &[&answers]);
    let anybody = world.reach(relay.trim_end_matches(&format!("/p2p/{id}"))).await?;
    ensure!(anybody.status.success(), "{anybody:?}");
    let screen = String::from_utf8(anybody.stdout)?;
    assert!(screen.contains(&format!("identity   {id} answers")), "{screen}");
    assert!(screen.contains("protocol   it is a relay, and keeps a place for us"), "{screen}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_down_or_has_no_name_fails_at_that_layer() -> Result<()> {
    let world = World::new()?;
    let down = world.doctor(&["--relay", NO_RELAY, "--json"])?.output(BOUND).await?;
    refused(&down, 1, &["TCP fails: 127.0.0.1:1 refuses connections", "see whether it runs"]);
    let said = json(&down)?;
    assert_eq!(check(&said, "relay")?["layer"], "tcp", "{said}");
    assert_eq!(said["expect"]["kind"], "nobody");
    let quic = NO_RELAY.replace("/tcp/1/", "/udp/1/quic-v1/");
    refused(&world.reach(&quic).await?, 1, &["QUIC fails: nothing listens at 127.0.0.1:1 over UDP"]);
    let named = NO_RELAY.replace("/ip4/127.0.0.1/", "/dns4/relay.invalid/");
    refused(&world.reach(&named).await?, 1, &["name fails: the name relay.invalid cannot be resolved"]);
    Ok(())
}

#[tokio::test]
async fn an_http_server_in_the_place_of_a_relay_is_called_one() -> Result<()> {
    let world = World::new()?;
    // The one looks at the first line, the other waits for a whole request.
    for waits in [false, true] {
        let at = answering(waits).await?;
        let address = NO_RELAY.replace("/tcp/1/", &format!("/tcp/{at}/"));
        let output = world.reach(&address).await?;
        refused(&output, 1, &["protocol fails: an HTTP server answers there"]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("ok       TCP"), "{output:?}");
    }
    Ok(())
}

async fn answering(waits: bool) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(stream, waits));
        }
    });
    Ok(port)
}

/// Says that this is no request, once it has seen a line of it, or all.
async fn refuse(mut stream: TcpStream, waits: bool) {
    let (mut heard, mut bytes) = (Vec::new(), [0; 512]);
    loop {
        let length = stream.read(&mut bytes).await.unwrap_or(0);
        heard.extend_from_slice(&bytes[..length]);
        let whole = heard.ends_with(b"\r\n\r\n");
        if length == 0 || whole || (!waits && heard.contains(&b'\n')) {
            break;
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
}

#[tokio::test]
async fn a_relay_that_takes_connections_and_never_answers_is_said_to_hang() -> Result<()> {
    let world = World::new()?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let port = silent.local_addr()?.port();
    let relay = NO_RELAY.replace("/tcp/1/", &format!("/tcp/{port}/"));
    let output = world.doctor(&["--relay", &relay])?.output(BOUND).await?;
    refused(&output, 1, &["handshake fails: it takes connections and says nothing for 3 s", "it hangs"]);
    // One whose process is stopped takes them as well: its system does.
    let (running, relay) = world.relay(&[]).await?;
    running.halt()?;
    refused(&world.reach(&relay).await?, 1, &["says nothing for 3 s"]);
    running.resume()?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_others_can_read_a_low_limit_and_a_directory_without_a_home_are_found() -> Result<()>
{
    let world = World::new()?;
    world.peer_id("own").await?;
    std::fs::set_permissions(world.path("own"), std::fs::Permissions::from_mode(0o644))?;
    let output = world.doctor(&[])?.output(BOUND).await?;
    refused(&output, 1, &["identity: ", "mode 644", "chmod 600"]);
    std::fs::set_permissions(world.path("own"), std::fs::Permissions::from_mode(0o600))?;
    let punchline = punchline_tests::process::binary("punchline")?;
    let command = format!("ulimit -n 100; exec {} doctor --port-mapping off", punchline.display());
    let limited =
        Launch::program(punchline_tests::process::Place::Host, "/bin/sh").args(["-c", &command]);
    let output = limited.env("XDG_STATE_HOME", world.text("state")).output(BOUND).await?;
    refused(&output, 1, &["open_files: 100 at most", "ulimit -n 4096"]);
    let nowhere =
        world.bare()?.args(["doctor", "--port-mapping", "off", "--identity", "/proc/none/identity"]);
    refused(&nowhere.output(BOUND).await?, 1, &["state_directory: /proc/none: it cannot be written to"]);
    Ok(())
}

#[tokio::test]
async fn a_bundle_has_everything_that_a_report_needs_and_nothing_that_names_anybody() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &[]).await?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    let file = world.text("bundle.json");
    let args = ["--relay", &relay, "--bundle", &file, "--control", &world.text("server.sock")];
    let output = world.doctor(&args)?.output(BOUND).await?;
    ensure!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file)?;
    let bundle: Value = serde_json::from_str(&text)?;
    assert!(bundle["doctor"]["checks"].as_array().is_some_and(|checks| checks.len() > 10), "{text}");
    assert_eq!(bundle["status"]["command"], "server");
    let events = bundle["events"].as_array().context("events")?;
    assert!(events.iter().any(|event| event["event"] == "reservation_held"), "{text}");
    assert!(bundle["replaced"].as_str().is_some_and(|replaced| replaced.contains("peer-1")));
    assert!(!text.contains("12D3KooW"), "{text}");
    // The same peer has the same name throughout.
    let relay_name = &bundle["status"]["relays"][0]["relay"];
    let held = events.iter().find(|event| event["event"] == "reservation_held").context("an event")?;
    assert_eq!(&held["relay"], relay_name);
    let again = world.doctor(&args)?.output(BOUND).await?;
    refused(&again, 1, &["bundle.json is there already", "--bundle"]);
    assert_eq!(std::fs::read_to_string(&file)?, text, "it is not touched");
    drop((client, server));
    Ok(())
}

#[tokio::test]
async fn what_is_no_address_is_unusable_and_a_check_of_settings_looks_at_nothing() -> Result<()> {
    let world = World::new()?;
    refused(&world.reach("relay.example:4001").await?, 2, &["/ip4/203.0.113.7/tcp/4001"]);
    refused(&world.reach("/ip4/127.0.0.1/udp/1").await?, 2, &["nobody can dial it"]);
    let checked = world.doctor(&["--relay", NO_RELAY, "--check"])?.output(SOON).await?;
    ensure!(checked.status.success() && checked.stdout.starts_with(b"the settings"), "{checked:?}");
    let proxied = world.doctor(&["--proxy", "socks5://secret@proxy:1080"])?.output(BOUND).await?;
    refused(&proxied, 2, &["--proxy is of a kind of proxy that is not known"]);
    assert!(!String::from_utf8_lossy(&proxied.stderr).contains("secret"));
    let file =
        world.write("settings.toml", &format!("relay = [\"{NO_RELAY}\"]\nlisten = [\"{LISTEN}\"]\n"))?;
    let by_file = world.doctor(&["--config", &file])?.output(BOUND).await?;
    refused(&by_file, 1, &["127.0.0.1:1 refuses connections"]);
    Ok(())
}
