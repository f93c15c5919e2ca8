//! Why a peer is reached as it is, told by nodes that run.

use std::time::Instant;

use anyhow::{Result, ensure};
use punchline_tests::process::Program;
use serde_json::Value;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

impl World {
    /// What the node that was started by this name tells of the peer.
    async fn why(&self, node: &str, peer: &str) -> Result<Value> {
        let socket = self.text(format!("{node}.sock"));
        let launch = self.bare()?.args(["why", peer, "--json", "--control", &socket]);
        let output = launch.output(SOON).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    async fn told(&self, node: &str, peer: &str) -> Result<String> {
        let socket = self.text(format!("{node}.sock"));
        let output = self.bare()?.args(["why", peer, "--control", &socket]).output(SOON).await?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The first finding comes to be this one.
    async fn finds(&self, node: &str, peer: &str, fault: &str) -> Result<Value> {
        let start = Instant::now();
        loop {
            let story = self.why(node, peer).await?;
            if story["findings"][0]["fault"] == fault {
                return Ok(story["findings"][0].clone());
            }
            ensure!(start.elapsed() < SOON, "not {fault}: {story:#}");
        }
    }

    /// A service with nobody behind it, let in as told.
    fn expose(&self, relay: &str, allow: &[&str]) -> Result<Program> {
        let expose = self.launch("expose", "expose")?.args(["--service", "web=127.0.0.1:1"]);
        Ok(expose.args(["--listen", LISTEN, "--relay", relay]).args(allow).spawn()?)
    }

    fn forwards_web(&self, relay: &str, peer: &str) -> Result<Program> {
        let forward = self.launch("forward", "forward")?.args(["--service", "web", "--peer", peer]);
        let local = ["--listen", LISTEN, "--local", "127.0.0.1:0", "--relay", relay];
        Ok(forward.args(local).spawn()?)
    }
}

/// A program of this machine connects to the forward.
async fn connects(forward: &Program) -> Result<()> {
    let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
    let local = listening.text("local").unwrap_or_default().to_owned();
    let before = forward.mark();
    drop(tokio::net::TcpStream::connect(local).await?);
    forward.wait_for_after(before, "forward_failed", |_| true, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn the_story_of_a_session_tells_how_it_became_direct_and_then_that_the_peer_is_gone() -> Result<()>
{
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let mut server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &[]).await?;
    let (server_id, relay_id) = (world.peer_id("server").await?, world.peer_id("relay").await?);
    client.wait_for("stream_moved", |event| event.has("to", "direct"), SOON).await?;
    let story = world.why("client", &server_id).await?;
    assert_eq!((&story["path"], &story["findings"]), (&"direct".into(), &Value::Array(Vec::new())));
    assert!(story["since_seconds"].is_f64() && story["services"][0]["opened"] == true, "{story:#}");
    let steps: Vec<_> = story["steps"].as_array().into_iter().flatten().collect();
    let said = |text: &str| steps.iter().any(|step| step["text"].as_str().unwrap_or("").contains(text));
    for text in
        ["a relayed connection came up over TCP", "direct over TCP after", "from relayed to direct"]
    {
        assert!(said(text), "`{text}` is missing in {story:#}");
    }
    let told = world.told("client", &server_id).await?;
    assert!(told.contains(": reached directly over TCP, at /ip4/127.0.0.1/tcp/"), "{told}");
    assert!(told.ends_with("nothing is in the way\n"), "{told}");
    assert!(world.told("server", &relay_id).await?.contains("that keeps a place for it"));
    let socket = world.text("client.sock");
    let unknown = world.bare()?.args(["why", NO_PEER, "--control", &socket]).output(SOON).await?;
    refused(&unknown, 1, &["knows nothing of", "it knows", &server_id]);
    let test = world.bare()?.args(["network", "hole-punch-test", "--control", &socket]);
    let tested = String::from_utf8(test.output(SOON).await?.stdout)?;
    assert!(tested.contains(" ms, direct over tcp") && tested.ends_with("in the way\n"), "{tested}");
    let relays = world.bare()?.args(["network", "bootstrap-health", "--json", "--control", &socket]);
    let relays: Value = serde_json::from_slice(&relays.output(SOON).await?.stdout)?;
    assert_eq!(relays["relays"][0]["relay"], relay_id.as_str(), "{relays}");
    server.terminate(SOON).await?;
    let gone = world.finds("client", &server_id, "peer_offline").await?;
    assert!(gone["help"].as_str().is_some_and(|help| help.ends_with(&relay)), "{gone}");
    Ok(())
}

#[tokio::test]
async fn both_ends_tell_that_the_allow_list_misses_the_peer_and_then_that_the_target_is_down()
-> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let mut expose = world.expose(&relay, &["--allow", NO_PEER])?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let ids = [world.peer_id("expose").await?, world.peer_id("forward").await?];
    let forward = world.forwards_web(&relay, &ids[0])?;
    connects(&forward).await?;
    let refused = world.finds("forward", &ids[0], "not_served_there").await?;
    let allow = format!("--allow {}", ids[1]);
    assert!(refused["help"].as_str().is_some_and(|help| help.contains(&allow)), "{refused}");
    let refuses = world.finds("expose", &ids[1], "refused_here").await?;
    assert!(refuses["help"].as_str().is_some_and(|help| help.contains(&allow)), "{refuses}");
    expose.terminate(SOON).await?;
    let expose = world.expose(&relay, &["--allow", &ids[1]])?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let opened = |event: &punchline_tests::process::Event| event.has("peer", &ids[1]);
    expose.wait_for("connection_opened", opened, SOON).await?;
    connects(&forward).await?;
    world.finds("forward", &ids[0], "target_down_there").await?;
    let down = world.finds("expose", &ids[1], "target_down_here").await?;
    assert!(down["why"].as_str().is_some_and(|why| why.contains("127.0.0.1:1")), "{down}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_down_hangs_or_is_somebody_else_is_named() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let hung = std::net::TcpListener::bind("127.0.0.1:0")?;
    let hung = format!("/ip4/127.0.0.1/tcp/{}/p2p/{NO_PEER}", hung.local_addr()?.port());
    let wrong = relay.replace(&world.peer_id("relay").await?, NO_PEER);
    let peer = world.peer_id("peer").await?;
    let mut nodes = Vec::new();
    for (name, relay) in [("down", NO_RELAY), ("hung", &hung), ("wrong", &wrong)] {
        let node = world.launch("forward", name)?.args(["--service", "web", "--peer", &peer]);
        let local = ["--listen", LISTEN, "--local", "127.0.0.1:0", "--relay", relay];
        nodes.push(node.args(local).spawn()?);
    }
    for (node, program) in ["down", "hung", "wrong"].into_iter().zip(&nodes) {
        program.wait_for("peer_unreachable", |_| true, SOON).await?;
        let fault = match node {
            "down" => "relay_down",
            "hung" => "relay_silent",
            _ => "wrong_relay",
        };
        world.finds(node, &peer, fault).await?;
    }
    Ok(())
}
