//! Tickets: one string that opens one service, and what becomes of those that should not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use libp2p::{Multiaddr, identity::Keypair};
use punchline_bridge::{
    Config, Endpoint, OpenOptions,
    error::{OpenError, Refusal},
};
use punchline_tests::process::Program;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{interval, timeout},
};

use crate::world::{
    ANY, Exposing, Forwarding, LISTEN, SOON, World, connecting_is_reset, echoes, is_reset, listener,
    tcp_echo, unusable,
};

/// A node that takes tickets and nothing else, for these services.
async fn exposing(world: &World, services: &str) -> Result<Exposing> {
    world.expose("exposer", &["--service", services, "--tickets"]).await
}

/// What `ticket new` prints at that node.
async fn ticket(world: &World, at: &Exposing, args: &[&str]) -> Result<String> {
    let new = ["ticket", "new", "--addr", &at.address, "--service"];
    world.printed("exposer", &[&new[..], args].concat()).await
}

/// Which is connected when this returns.
async fn forward(world: &World, name: &str, ticket: &str) -> Result<Forwarding> {
    let args = ["--ticket", ticket, "--local", ANY, "--assume-global", "127.0.0.0/8"];
    let forward = world.forward_with(name, &args).await?;
    forward.program.wait_for("connection_opened", |_| true, SOON).await?;
    Ok(forward)
}

/// A new local connection is reset, and this is the reason.
async fn refused(forward: &Forwarding, reason: &str) -> Result<()> {
    let mark = forward.program.mark();
    connecting_is_reset(&forward.local).await?;
    let failed = forward.program.wait_for_after(mark, "forward_failed", |_| true, SOON).await?;
    assert!(failed.text("reason").is_some_and(|said| said.contains(reason)), "{failed}");
    Ok(())
}

async fn said(program: &Program, reason: &str) -> Result<()> {
    let has = |event: &punchline_tests::process::Event| {
        event.text("reason").is_some_and(|said| said.contains(reason))
    };
    program.wait_for("access_refused", has, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_ticket_is_all_that_a_forward_needs() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay().await?;
    let services = format!("echo={}", tcp_echo().await?);
    let args = ["--service", &services, "--tickets", "--relay", &relay];
    let exposing = world.expose("exposer", &args).await?;
    exposing.program.wait_for("reservation_held", |_| true, SOON).await?;
    let new = ["ticket", "new", "--service", "echo", "--relay", &relay];
    let ticket = world.printed("exposer", &new).await?;
    let forward = forward(&world, "forwarder", &ticket).await?;
    for _ in 0..3 {
        echoes(&forward.local).await?;
    }
    // The same in a settings file, beside a service of its own.
    let file = format!(
        "events = \"-\"\nlisten = \"{LISTEN}\"\nassume-global = \"127.0.0.0/8\"\n[[forward]]\nticket = \"{ticket}\"\nlocal = \"{ANY}\"\n\
         [[expose]]\nservice = \"own\"\ntarget = \"127.0.0.1:1\"\ntickets = true\n"
    );
    let file = world.write("settings.toml", &file)?;
    let by_file = world.quiet("third", &["run", "--config", &file])?.spawn()?;
    let listening = by_file.wait_for("forward_listening", |_| true, SOON).await?;
    echoes(listening.text("local").context("a place")?).await?;
    // Without it nobody gets in.
    let args =
        ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "echo", "--local", ANY];
    let stranger = world.forward_with("stranger", &args).await?;
    refused(&stranger, "or not to this peer").await
}

#[tokio::test]
async fn a_ticket_for_one_use_opens_one_connection_whoever_comes_next() -> Result<()> {
    let world = World::new()?;
    let exposing = exposing(&world, &format!("echo={}", tcp_echo().await?)).await?;
    let ticket = ticket(&world, &exposing, &["echo", "--once"]).await?;
    let first = forward(&world, "forwarder", &ticket).await?;
    echoes(&first.local).await?;
    refused(&first, "has been used").await?;
    refused(&forward(&world, "thief", &ticket).await?, "has been used").await?;
    said(&exposing.program, "was for one use").await
}

#[tokio::test]
async fn a_ticket_for_one_use_survives_a_dead_target() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    drop(target);
    let exposing = exposing(&world, &format!("raw={address}")).await?;
    let forward =
        forward(&world, "forwarder", &ticket(&world, &exposing, &["raw", "--once"]).await?).await?;
    refused(&forward, "connection refused by the target").await?;
    let target = TcpListener::bind(&address).await?;
    let mut client = TcpStream::connect(&forward.local).await?;
    client.write_all(b"!").await?;
    let (mut server, _) = timeout(SOON, target.accept()).await??;
    assert_eq!(server.read_u8().await?, b'!');
    Ok(())
}

#[tokio::test]
async fn an_expired_ticket_opens_nothing_more_and_what_it_opened_stays() -> Result<()> {
    let world = World::new()?;
    let exposing = exposing(&world, &format!("echo={}", tcp_echo().await?)).await?;
    let ticket = ticket(&world, &exposing, &["echo", "--expires", "3s"]).await?;
    let forward = forward(&world, "forwarder", &ticket).await?;
    let mut early = TcpStream::connect(&forward.local).await?;
    early.write_all(b"!").await?;
    assert_eq!(timeout(SOON, early.read_u8()).await??, b'!');
    let mut pause = interval(Duration::from_millis(100));
    let expired = async {
        while echoes(&forward.local).await.is_ok() {
            pause.tick().await;
        }
    };
    timeout(SOON, expired).await?;
    refused(&forward, "has expired").await?;
    early.write_all(b"?").await?;
    assert_eq!(timeout(SOON, early.read_u8()).await??, b'?');
    Ok(())
}

#[tokio::test]
async fn a_revoked_ticket_cuts_what_it_opened_within_a_second() -> Result<()> {
    let world = World::new()?;
    let exposing = exposing(&world, &format!("echo={}", tcp_echo().await?)).await?;
    let other = forward(&world, "other", &ticket(&world, &exposing, &["echo"]).await?).await?;
    let forward = forward(&world, "forwarder", &ticket(&world, &exposing, &["echo"]).await?).await?;
    let mut clients = Vec::new();
    for local in [&forward.local, &other.local] {
        let mut client = TcpStream::connect(local).await?;
        client.write_all(b"!").await?;
        assert_eq!(timeout(SOON, client.read_u8()).await??, b'!');
        clients.push(client);
    }
    let listed = world.printed("exposer", &["ticket", "list", "--json"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let ids: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    // Which is whose is seen by what is cut.
    world.printed("exposer", &["ticket", "revoke", ids[0]]).await?;
    let revoked = Instant::now();
    let [first, second] = clients.as_mut_slice() else { unreachable!("there are two") };
    let (cut, whose) = tokio::select! {
        cut = is_reset(first, SOON) => (cut, &forward),
        cut = is_reset(second, SOON) => (cut, &other),
    };
    cut?;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    exposing.program.wait_for("access_revoked", |_| true, SOON).await?;
    refused(whose, "was revoked").await?;
    world.printed("exposer", &["ticket", "revoke", "--all"]).await?;
    for forward in [&forward, &other] {
        refused(forward, "was revoked").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_contradicts_a_ticket_or_is_none_is_refused_before_anything_starts() -> Result<()> {
    let world = World::new()?;
    let exposing = exposing(&world, &format!("echo={}", tcp_echo().await?)).await?;
    let ticket = ticket(&world, &exposing, &["echo"]).await?;
    let other = world.peer_id("other").await?;
    let mut damaged = ticket.clone();
    damaged.replace_range(40..41, if ticket.as_bytes()[40] == b'A' { "B" } else { "A" });
    for (args, hints) in [
        (["--ticket", &ticket, "--service", "ssh"], &["--service says ssh and the ticket echo"][..]),
        (["--ticket", &ticket, "--peer", &other], &["--peer says", &other]),
        (["--ticket", &damaged, "--service", "echo"], &["damaged", "copy the whole of it again"]),
        (["--ticket", "letmein", "--service", "echo"], &["punchline-ticket:", "ticket new"]),
    ] {
        let args = [&["forward", "--local", ANY], &args[..]].concat();
        unusable(&world.quiet("forwarder", &args)?.output(SOON).await?, hints);
    }
    Ok(())
}

/// What the ticket presents: its capability and signature, as `design/tickets.md` lays them out.
fn proof(ticket: &str) -> Result<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text = ticket.strip_prefix("punchline-ticket:").context("a ticket")?;
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter).context("base64url")?;
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    let name = usize::from(*bytes.get(58).context("a name")?);
    bytes.truncate(59 + name + 64);
    Ok(bytes)
}

#[tokio::test]
async fn a_ticket_for_something_else_or_a_forged_one_is_told_nothing() -> Result<()> {
    let world = World::new()?;
    let echo = tcp_echo().await?;
    let exposing = exposing(&world, &format!("echo={echo},ssh={echo}")).await?;
    let ticket = proof(&ticket(&world, &exposing, &["echo"]).await?)?;
    let listen = vec![LISTEN.parse()?];
    let config = Config { listen, ..Config::default() };
    let (endpoint, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await?;
    let (peer, address): (_, Multiaddr) = (exposing.peer.parse()?, exposing.address.parse()?);
    endpoint.add_addresses(peer, vec![address]).await;
    let open = async |service: &str, ticket: &[u8]| {
        endpoint
            .open_with(
                peer,
                service.parse()?,
                OpenOptions { ticket: ticket.to_vec().into(), ..OpenOptions::default() },
            )
            .await
            .map_err(anyhow::Error::from)
    };
    open("echo", &ticket).await?;
    let mut forged = ticket.clone();
    // Another id.
    forged[5] ^= 1;
    for (service, ticket, reason) in [
        ("ssh", &ticket[..], "is for `echo`"),
        ("echo", &forged, "not signed"),
        ("echo", &ticket[1..], "no ticket"),
        ("echo", &[], "no ticket"),
    ] {
        let error = open(service, ticket).await.err().context("refused")?;
        let told = error.downcast_ref::<OpenError>().context("by the peer")?;
        assert!(matches!(told, OpenError::Refused { reason: Refusal::NotServed, .. }), "{told}");
        said(&exposing.program, reason).await?;
    }
    endpoint.shutdown().await;
    Ok(())
}
