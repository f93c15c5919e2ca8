//! What a node that runs answers about itself.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use punchline_tests::process::{Launch, Place, binary};
use serde_json::Value;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

impl World {
    fn ask(&self, args: &[&str]) -> Result<Launch> {
        Ok(self.bare()?.args(["status"]).args(args))
    }

    async fn status(&self, args: &[&str]) -> Result<Value> {
        let output = self.ask(args)?.args(["--json"]).output(SOON).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

#[tokio::test]
async fn both_ends_of_a_session_tell_how_it_runs_and_the_relay_that_introduced_them() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &[]).await?;
    let ids = [world.peer_id("server").await?, world.peer_id("client").await?];
    client.wait_for("session_ready", |_| true, SOON).await?;
    server.wait_for("stream_moved", |event| event.has("to", "direct"), SOON).await?;
    for (name, own, other) in [("server", &ids[0], &ids[1]), ("client", &ids[1], &ids[0])] {
        let socket = world.text(format!("{name}.sock"));
        let mode = std::fs::metadata(&socket)?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "its owner's alone");
        let status = world.status(&["--control", &socket]).await?;
        assert_eq!((&status["peer"], &status["command"]), (&own.as_str().into(), &name.into()));
        let peer = &status["peers"][0];
        assert_eq!(
            (&peer["peer"], &peer["path"]),
            (&other.as_str().into(), &"direct".into()),
            "{status}"
        );
        assert!(peer.get("why_relayed").is_none() && peer["streams"] == 1, "{status}");
        let relayed = peer["sent_relayed_bytes"].as_u64().unwrap_or_default();
        assert!(relayed > 0, "the session began on the relay: {status}");
        assert!(relay.ends_with(status["relays"][0]["relay"].as_str().unwrap_or("?")), "{status}");
        let screen = world.ask(&["--control", &socket])?.output(SOON).await?;
        let screen = String::from_utf8(screen.stdout)?;
        assert!(screen.contains(&format!("{other}  direct over tcp")), "{screen}");
    }
    let held = world.status(&["--control", &world.text("server.sock")]).await?;
    assert_eq!(held["relays"][0]["state"], "reserved", "{held}");
    Ok(())
}

#[tokio::test]
async fn a_node_is_found_by_itself_and_by_its_name_where_several_run() -> Result<()> {
    let world = World::new()?;
    let at_home = |args: &[&str]| {
        let launch = Launch::program(Place::Host, binary("punchline")?).args(args);
        let listen = LISTEN;
        anyhow::Ok(launch.env("XDG_STATE_HOME", world.text("state")).env("PUNCHLINE_LISTEN", listen))
    };
    let ask = async |args: &[&str]| {
        at_home(&[&["status"], args].concat())?.output(SOON).await.map_err(anyhow::Error::from)
    };
    refused(&ask(&[]).await?, 1, &["no node answers in", "--control"]);
    let server = ["server", "--network", "simnet", "--events", "-"];
    let mut server = at_home(&server)?.spawn()?;
    server.wait_for("listening", |_| true, SOON).await?;
    let only = loop {
        let output = ask(&[]).await?;
        if output.status.success() {
            break String::from_utf8(output.stdout)?;
        }
    };
    assert!(only.contains(" server, up ") && only.contains("peers: none"), "{only}");
    let expose = ["expose", "--service", "web=127.0.0.1:9", "--allow-any", "--events", "-"];
    let expose = at_home(&expose)?.spawn()?;
    expose.wait_for("listening", |_| true, SOON).await?;
    let both = loop {
        let output = ask(&[]).await?;
        if !output.status.success() {
            break output;
        }
    };
    refused(&both, 1, &["several nodes run here: expose, server", "--node"]);
    let named = ask(&["--node", "server"]).await?;
    assert!(named.status.success(), "{named:?}");
    server.terminate(SOON).await?;
    refused(&ask(&["--node", "server"]).await?, 1, &["no node answers at", "identity-server.sock"]);
    assert!(!world.path("state/punchline/identity-server.sock").exists(), "it is removed");
    Ok(())
}

#[tokio::test]
async fn a_node_is_waited_for_watched_and_has_its_peers_pinged() -> Result<()> {
    let world = World::new()?;
    let socket = world.text("server.sock");
    let ask = |what: &str, args: &[&str]| {
        let launch = world.bare()?.args([what, "--control", &socket]).args(args);
        anyhow::Ok(launch)
    };
    let output = ask("wait-ready", &["--timeout", "1s"])?.output(SOON).await?;
    refused(&output, 1, &["not usable after 1s", "server.sock"]);
    let down = world.launch("server", "server")?.args(["--listen", LISTEN, "--relay", NO_RELAY]);
    let mut down = down.spawn()?;
    down.wait_for("reservation_failed", |_| true, SOON).await?;
    refused(
        &ask("health", &["--check"])?.output(SOON).await?,
        1,
        &["not usable: relay", "is not reached"],
    );
    down.terminate(SOON).await?;
    let (_relay, relay) = world.relay(&[]).await?;
    let waits = ask("wait-ready", &[])?.spawn()?;
    let server = world.server(&relay, &[]).await?;
    let mut waits = waits;
    assert!(waits.wait(SOON).await?.success(), "{}", waits.report());
    let health = ask("health", &[])?.output(SOON).await?;
    assert!(String::from_utf8(health.stdout)?.starts_with("usable: 1 of 1 relays"));
    let quiet = ask("health", &["--check"])?.output(SOON).await?;
    assert!(quiet.status.success() && quiet.stdout.is_empty(), "{quiet:?}");
    let recent = ask("events", &[])?.output(SOON).await?;
    let recent = String::from_utf8(recent.stdout)?;
    let names: Vec<_> = server.events().iter().map(|event| event.name().to_owned()).collect();
    let told: Vec<Value> = recent.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(
        told.len() >= names.len() && told.iter().zip(&names).all(|(one, name)| one["event"] == **name),
        "{recent}"
    );
    let follows = ask("events", &["--follow"])?.spawn()?;
    let lonely = world.launch("client", "lonely")?.args(["--listen", LISTEN, "--relay", &relay]);
    let lonely = lonely.args(["--peer", NO_PEER, "--dial-attempts", "0"]).spawn()?;
    lonely.wait_for("dial_failed", |_| true, SOON).await?;
    let beside = world.quiet("health", "lonely")?.env("PUNCHLINE_CONTROL", "off").output(SOON).await?;
    refused(&beside, 1, &[&format!("not usable: peer {NO_PEER} is not connected")]);
    drop(lonely);
    let client = world.client(&relay, &[]).await?;
    follows.wait_for("session_ready", |_| true, SOON).await?;
    let ids = [world.peer_id("client").await?, world.peer_id("relay").await?];
    let pings = ask("ping", &[&ids[0], "--until-direct"])?.output(SOON).await?;
    let pings = String::from_utf8(pings.stdout)?;
    assert!(pings.contains(" ms, direct over tcp") && pings.contains(" 0 lost; least "), "{pings}");
    let once = ask("ping", &[&ids[1], "-c", "1"])?.output(SOON).await?;
    assert!(once.status.success(), "a relay of ours answers, too: {once:?}");
    refused(&ask("ping", &[NO_PEER])?.output(SOON).await?, 1, &["no connection", "punchline status"]);
    drop((client, server));
    Ok(())
}

#[tokio::test]
async fn a_socket_that_cannot_be_is_refused_if_asked_for_and_done_without_if_not() -> Result<()> {
    let world = World::new()?;
    let precious = world.write("precious", "not a socket")?;
    let server = |args: &[&str]| {
        let launch = world.launch("server", "server")?.args(["--listen", LISTEN]);
        anyhow::Ok(launch.args(args))
    };
    let output = server(&["--control", &precious])?.output(SOON).await?;
    refused(&output, 2, &["--control", "precious", "no socket"]);
    assert!(!String::from_utf8(output.stdout)?.contains("listening"), "nobody was bothered");
    assert_eq!(std::fs::read_to_string(&precious)?, "not a socket");
    for (place, hint) in
        [("x".repeat(120), "107 at most"), ("nowhere/socket".to_owned(), "No such file")]
    {
        for check in [&[][..], &["--check"]] {
            let output = server(&["--control", &world.text(&place)])?.args(check).output(SOON).await?;
            refused(&output, 2, &["--control", hint]);
        }
    }
    let taken = world.text("taken");
    let first = server(&["--control", &taken])?.spawn()?;
    first.wait_for("listening", |_| true, SOON).await?;
    let second = world.launch("server", "other")?.args(["--listen", LISTEN, "--control", &taken]);
    refused(&second.output(SOON).await?, 1, &["taken", "in use", "--control"]);
    drop(first);
    world.write("server.sock", "not a socket")?;
    let node = server(&[])?.spawn()?;
    node.wait_for("listening", |_| true, SOON).await?;
    let off = world.launch("client", "client")?.args(["--listen", LISTEN]);
    let off =
        off.args(["--peer", NO_PEER, "--addr", "/ip4/127.0.0.1/tcp/1", "--control", "off"]).spawn()?;
    off.wait_for("dial_failed", |_| true, SOON).await?;
    assert!(!world.path("client.sock").exists());
    Ok(())
}
