//! What a relay that runs answers about itself.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use punchline_tests::process::{Launch, Place, binary};
use serde_json::Value;

use crate::world::{LISTEN, SOON, World, refused};

impl World {
    fn ask_relay(&self, what: &str, args: &[&str]) -> Result<Launch> {
        Ok(self.bare()?.args([what, "--control", &self.text("relay.sock")]).args(args))
    }
}

#[tokio::test]
async fn a_relay_tells_whom_it_serves_and_how_full_it_is() -> Result<()> {
    let world = World::new()?;
    let stun = ["--stun-listen", "127.0.0.1:0", "--max-reservations", "5"];
    let (_relay, relay) = world.relay(&stun).await?;
    let ready = world.ask_relay("wait-ready", &["--timeout", "30s"])?.output(SOON).await?;
    assert!(ready.status.success(), "{ready:?}");
    let mode = std::fs::metadata(world.path("relay.sock"))?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "its owner's alone");
    let server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &[]).await?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    let output = world.ask_relay("status", &["--json"])?.output(SOON).await?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(status["peer"], world.peer_id("relay").await?);
    assert_eq!(status["command"], "relay", "{status}");
    let relaying = &status["relaying"];
    assert_eq!((&relaying["reservations"], &relaying["kept"]), (&1.into(), &0.into()), "{status}");
    assert!(relaying["connections"].as_u64() >= Some(2), "{status}");
    assert!(relaying["forwarded_bytes"].as_u64() > Some(0), "the session began on it: {status}");
    assert!(relaying["received_bytes"].as_u64() > relaying["forwarded_bytes"].as_u64(), "{status}");
    let at = |list: &Value| list[0].as_str().map(str::to_owned).unwrap_or_default();
    assert!(relay.starts_with(&at(&status["listening"])), "{status}");
    assert!(at(&relaying["external"]).starts_with("/ip4/127.0.0.1/tcp/"), "{status}");
    assert!(at(&relaying["stun"]).starts_with("/ip4/127.0.0.1/udp/"), "{status}");
    let limits = status["limits"].as_array().cloned().unwrap_or_default();
    let places = limits.iter().find(|limit| limit["what"] == "reservations");
    let full = places.map(|limit| (limit["used"].clone(), limit["limit"].clone()));
    assert_eq!(full, Some((1.into(), 5.into())), "{status}");
    let screen = world.ask_relay("status", &[])?.output(SOON).await?;
    let screen = String::from_utf8(screen.stdout)?;
    assert!(screen.contains(" relay, up ") && screen.contains("  1 of 5 places held\n"), "{screen}");
    let health = world.ask_relay("health", &[])?.output(SOON).await?;
    assert!(String::from_utf8(health.stdout)?.contains(" connections, 1 places held"));
    let events = world.ask_relay("events", &[])?.output(SOON).await?;
    assert!(String::from_utf8(events.stdout)?.contains(r#""event":"listening""#));
    let ping = world.ask_relay("ping", &[&world.peer_id("server").await?])?.output(SOON).await?;
    refused(&ping, 1, &["a relay pings nobody"]);
    drop((client, server));
    Ok(())
}

#[tokio::test]
async fn a_relay_is_found_by_its_name_and_leaves_no_socket_behind() -> Result<()> {
    let world = World::new()?;
    let at_home = |args: &[&str]| {
        let launch = Launch::program(Place::Host, binary("punchline")?).args(args);
        anyhow::Ok(launch.env("XDG_STATE_HOME", world.text("state")).env("PUNCHLINE_STUN_LISTEN", "off"))
    };
    let relay = ["relay", "--listen", LISTEN, "--external", "auto", "--events", "-"];
    let mut relay = at_home(&relay)?.spawn()?;
    let ready = at_home(&["wait-ready"])?.output(SOON).await?;
    assert!(ready.status.success(), "the only node there is: {ready:?}");
    let named = at_home(&["status", "--node", "relay"])?.output(SOON).await?;
    assert!(String::from_utf8(named.stdout)?.contains("answers STUN: none"));
    let mut follows = at_home(&["events", "--follow"])?.spawn()?;
    follows.wait_for("listening", |_| true, SOON).await?;
    relay.terminate(SOON).await?;
    follows.wait(SOON).await?;
    assert!(!world.path("state/punchline/identity-relay.sock").exists(), "it is removed");
    let off = [LISTEN, "--external", "auto", "--control", "off", "--events", "-"];
    let off = at_home(&[&["relay", "--listen"], &off[..]].concat())?.spawn()?;
    off.wait_for("listening", |_| true, SOON).await?;
    let nobody = at_home(&["health"])?.output(SOON).await?;
    refused(&nobody, 1, &["no node answers in"]);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_learns_its_address_from_a_peer_then_says_what_peers_use() -> Result<()> {
    let world = World::new()?;
    let launch = world.launch("relay", "relay")?.args(["--listen", "/ip4/0.0.0.0/tcp/0"]);
    let relay = launch.args(["--external", "auto", "--assume-global", "127.0.0.2/32"]).spawn()?;
    let listening = relay.wait_for("listening", |_| true, SOON).await?;
    let port = listening.text("address").and_then(|address| address.rsplit('/').next());
    let suffix = format!("tcp/{}/p2p/{}", port.unwrap_or_default(), world.peer_id("relay").await?);
    assert!(!relay.report().contains("peers use:"), "{}", relay.report());
    // An address of this host that no interface is known by, as behind a router.
    let address = format!("/ip4/127.0.0.2/{suffix}");
    let _server = world.server(&address, &[]).await?;
    let found = relay.wait_for("external_found", |_| true, SOON).await?;
    assert_eq!(found.text("address"), Some(address.as_str()));
    let line = format!("peers use: --relay {address}");
    assert_eq!(relay.report().matches(&line).count(), 1, "{}", relay.report());
    Ok(())
}
