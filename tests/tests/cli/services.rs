//! What a node that runs answers about its services, its forwards and its limits; and that it reads its files again.

use anyhow::{Context as _, Result};
use punchline_tests::process::Program;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::world::{LISTEN, NO_PEER, SOON, World, refused};

impl World {
    async fn status_of(&self, name: &str) -> Result<Value> {
        let output = self.quiet("status", name)?.args(["--json"]).output(SOON).await?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What makes a forward to the service `echo` that it exposes.
    async fn way_to(&self, exposing: &Program) -> Result<[String; 6]> {
        let listening = exposing.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").context("an address")?.to_owned();
        let peer = self.peer_id("expose").await?;
        let way = ["--peer", &peer, "--addr", &address, "--service", "echo"];
        Ok(way.map(str::to_owned))
    }

    /// A running forward, and where it listens.
    async fn forward(&self, way: &[String]) -> Result<(Program, String)> {
        let launch = self.launch("forward", "forward")?.args(["--listen", LISTEN]).args(way);
        let forward = launch.args(["--local", "127.0.0.1:0"]).spawn()?;
        let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
        let local = listening.text("local").context("a local address")?.to_owned();
        Ok((forward, local))
    }
}

/// A program that gives back what it gets, and where it listens.
async fn echo() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

/// A connection to the forward over which a byte came back; none if it ended first.
async fn connected(local: &str) -> Result<Option<TcpStream>> {
    let mut socket = TcpStream::connect(local).await?;
    let _ = socket.write_all(b"x").await;
    let back = timeout(SOON, socket.read_u8()).await?;
    Ok(back.is_ok().then_some(socket))
}

#[tokio::test]
async fn both_ends_of_a_service_tell_who_may_use_it_and_who_does() -> Result<()> {
    let world = World::new()?;
    let target = echo().await?;
    let user = world.peer_id("forward").await?;
    let named = world.quiet("peers", "expose")?.args(["name", &user, "alice"]).output(SOON).await?;
    assert!(named.status.success(), "{named:?}");
    let service = format!("echo={target}");
    let allow = ["--allow", "alice", "--allow", NO_PEER, "--listen", LISTEN];
    let exposing =
        world.launch("expose", "expose")?.args(["--service", &service]).args(allow).spawn()?;
    let (_forward, local) = world.forward(&world.way_to(&exposing).await?).await?;
    let sockets = [connected(&local).await?, connected(&local).await?];
    assert!(sockets.iter().all(Option::is_some));
    let status = world.status_of("expose").await?;
    let service = &status["services"][0];
    assert_eq!((&service["service"], &service["target"]), (&"echo".into(), &target.as_str().into()));
    assert_eq!((&service["anybody"], &service["tickets"]), (&false.into(), &true.into()), "{status}");
    assert_eq!((&service["allowed_count"], &service["connections"]), (&2.into(), &2.into()), "{status}");
    let first = serde_json::json!({ "peer": user, "name": "alice" });
    assert_eq!((&service["allowed"][0], &service["allowed"][1]["peer"]), (&first, &NO_PEER.into()));
    let using = serde_json::json!([{ "peer": user, "name": "alice", "streams": 2 }]);
    assert_eq!((&service["users"], &service["connections_max"]), (&using, &256.into()), "{status}");
    let full = |what: &str| {
        let limits = status["limits"].as_array().into_iter().flatten();
        let limit = limits.clone().find(|limit| limit["what"] == what);
        limit.map(|limit| (limit["used"].as_u64(), limit["limit"].as_u64()))
    };
    assert_eq!(full("streams_of_peers"), Some((Some(2), Some(2048))), "{status}");
    assert!(full("connections").is_some_and(|(used, limit)| used >= Some(1) && limit == Some(4096)));
    for what in ["holds", "handshakes", "stream_memory_bytes", "unread_memory_bytes"] {
        assert!(full(what).is_some(), "{what}: {status}");
    }
    let screen = String::from_utf8(world.quiet("status", "expose")?.output(SOON).await?.stdout)?;
    let shown = format!("  echo at {target}  for 2 peers and holders of tickets\n    used by alice (…");
    assert!(screen.contains(&shown) && !screen.contains("limits"), "{screen}");
    let status = world.status_of("forward").await?;
    let forward = &status["forwards"][0];
    assert_eq!((&forward["service"], &forward["local"]), (&"echo".into(), &local.as_str().into()));
    assert_eq!((&forward["state"], &forward["connections"]), (&"direct".into(), &2.into()), "{status}");
    assert!(forward.get("last_error").is_none(), "{status}");
    drop(exposing);
    Ok(())
}

#[tokio::test]
async fn files_are_read_again_when_asked_for_and_a_wrong_one_changes_nothing() -> Result<()> {
    let world = World::new()?;
    let (target, user) = (echo().await?, world.peer_id("forward").await?);
    let service = format!("echo={target}");
    let list = world.write("friends", &format!("{NO_PEER}\n"))?;
    let nets = world.write("nets", "deny 10.0.0.0/8\n")?;
    let files = ["--allow-file", &list, "--net-file", &nets, "--listen", LISTEN];
    let exposing =
        world.launch("expose", "expose")?.args(["--service", &service]).args(files).spawn()?;
    let (_forward, local) = world.forward(&world.way_to(&exposing).await?).await?;
    assert!(connected(&local).await?.is_none(), "not on the list");
    let status = world.status_of("forward").await?;
    assert!(status["forwards"][0]["last_error"].is_string(), "{status}");
    let reload = || anyhow::Ok(world.quiet("reload", "expose")?);
    world.write("friends", &format!("{user}\n"))?;
    world.write("nets", "deny 10.0.0.0/8\ndeny all\n")?;
    refused(&reload()?.output(SOON).await?, 1, &["nets, line 2: `deny all`", "nothing changed"]);
    let unchanged = world.status_of("expose").await?;
    assert_eq!(unchanged["services"][0]["allowed"][0]["peer"], NO_PEER, "the other file was right");
    world.write("nets", "deny 10.0.0.0/8\n")?;
    let read = reload()?.output(SOON).await?;
    assert!(read.status.success(), "{read:?}");
    let said = String::from_utf8(read.stdout)?;
    assert!(said.contains("1 peers may use `echo`, with ") && said.contains("ranges from "), "{said}");
    assert!(connected(&local).await?.is_some(), "on the list");
    exposing.wait_for("access_reloaded", |event| event.text("error").is_none(), SOON).await?;
    world.write("friends", &format!("{user}\nalice\n"))?;
    refused(
        &reload()?.output(SOON).await?,
        1,
        &["friends, line 2: `alice` is not a peer id", "nothing changed"],
    );
    let relay = world.relay(&[]).await?;
    let nothing = world.quiet("reload", "relay")?.output(SOON).await?;
    assert!(String::from_utf8(nothing.stdout)?.contains("no file that can be read again"));
    drop((exposing, relay));
    Ok(())
}

#[tokio::test]
async fn a_check_looks_at_the_place_of_the_control_socket_and_leaves_nothing_there() -> Result<()> {
    let world = World::new()?;
    let precious = world.write("precious", "not a socket")?;
    let long = world.text("x".repeat(120));
    for command in ["server", "relay"] {
        let check = |place: &str| {
            let launch = world.quiet(command, command)?.args(["--listen", "/ip4/127.0.0.1/tcp/4001"]);
            anyhow::Ok(launch.args(["--check", "--control", place]))
        };
        let place = world.text("free.sock");
        let good = check(&place)?.output(SOON).await?;
        assert!(good.status.success() && !world.path("free.sock").exists(), "{good:?}");
        for (place, hint) in [
            (&precious, "no socket"),
            (&world.text("none/x.sock"), "No such file"),
            (&long, "107 at most"),
        ] {
            refused(&check(place)?.output(SOON).await?, 2, &[hint, "--control"]);
        }
    }
    Ok(())
}
