//! How long streams wait for a peer that went silent is a setting, and each service may have its own.

use anyhow::{Context as _, Result};
use punchline_tests::process::Event;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{ANY, LISTEN, SOON, World, is_reset, tcp_echo, unusable};

/// Connects, and knows that the echo is there.
async fn echoing(local: &str) -> Result<TcpStream> {
    let mut client = TcpStream::connect(local).await?;
    client.write_all(b"?").await?;
    anyhow::ensure!(timeout(SOON, client.read_u8()).await.context("no echo")?? == b'?');
    Ok(client)
}

#[tokio::test]
async fn a_peer_that_sleeps_longer_than_one_services_patience_keeps_the_other_service() -> Result<()> {
    let world = World::new()?;
    let echo = tcp_echo().await?;
    let services = format!("brief={echo},patient={echo}");
    let args = ["--service", &services, "--allow-any", "--patience", "2h"];
    let exposing = world.expose("exposer", &args).await?;
    let (peer, address) = (&exposing.peer, &exposing.address);
    let common = format!("peer = \"{peer}\"\naddr = \"{address}\"\nlocal = \"{ANY}\"\n");
    let settings = format!(
        "listen = \"{LISTEN}\"\nevents = \"-\"\npatience = \"2h\"\n\
         [[forward]]\nservice = \"brief\"\npatience = \"2s\"\n{common}\
         [[forward]]\nservice = \"patient\"\n{common}"
    );
    let file = world.write("forward.toml", &settings)?;
    let forwarder = world.quiet("forwarder", &["run", "--config", &file])?.spawn()?;
    let mut clients = Vec::new();
    for service in ["brief", "patient"] {
        let of_service = |event: &Event| event.has("service", service);
        let listening = forwarder.wait_for("forward_listening", of_service, SOON).await?;
        clients.push(echoing(listening.text("local").context("a place")?).await?);
    }
    let [brief, patient] = &mut clients[..] else { unreachable!("two services") };
    exposing.program.halt()?;
    for client in [&mut *brief, &mut *patient] {
        client.write_all(b"!").await?;
    }
    is_reset(brief, SOON).await.with_context(|| forwarder.report())?;
    exposing.program.resume()?;
    let echoed = timeout(SOON, patient.read_u8()).await.context("it did not come back");
    assert_eq!(echoed.with_context(|| forwarder.report())??, b'!');
    Ok(())
}

#[tokio::test]
async fn a_stream_whose_both_ends_sleep_goes_on_when_they_wake() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    let exposing =
        world.expose("exposer", &["--service", &service, "--allow-any", "--patience", "2h"]).await?;
    let way =
        ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "echo", "--local", ANY];
    let forward = async |name, patience| {
        world.forward_with(name, &[&way[..], &["--patience", patience]].concat()).await
    };
    let (sleeper, witness) = (forward("sleeper", "2h").await?, forward("witness", "2s").await?);
    let (mut patient, mut brief) = (echoing(&sleeper.local).await?, echoing(&witness.local).await?);
    for asleep in [&sleeper.program, &exposing.program] {
        asleep.halt()?;
    }
    for client in [&mut brief, &mut patient] {
        client.write_all(b"!").await?;
    }
    // Whoever is awake has given up by now.
    is_reset(&mut brief, SOON).await.with_context(|| witness.program.report())?;
    for woken in [&exposing.program, &sleeper.program] {
        woken.resume()?;
    }
    let echoed = timeout(SOON, patient.read_u8()).await.context("it did not come back");
    assert_eq!(echoed.with_context(|| sleeper.program.report())??, b'!');
    Ok(())
}

#[tokio::test]
async fn a_patience_that_is_none_is_said_with_what_is_possible() -> Result<()> {
    let world = World::new()?;
    for bad in ["60", "0s", "25h", "for ever"] {
        let args = ["forward", "--check", "--local", ANY, "--patience", bad];
        let output = world.quiet("node", &args)?.output(SOON).await?;
        unusable(&output, &["--patience", "90s, 15m or 2h"]);
    }
    Ok(())
}
