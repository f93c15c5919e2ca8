//! Nodes behind a router that was told by hand to forward a port to them, or was not though their operator says so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{Lab, LabSpec, Nat};
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use punchline_tests::scene::Transport;

use crate::world::{SOON, World, listening};

/// The port at the router, and that of the host.
const OUTSIDE: u16 = 7000;
const INSIDE: u16 = 4001;

/// Of two such NATs neither end can punch a hole to the other.
const HOPELESS: [Nat; 2] = [Nat::Symmetric; 2];

/// What the operator of host 0 says, and types for it to hold.
struct Stated {
    address: String,
    args: [String; 4],
}

fn stated(lab: &Lab, transport: Transport) -> Stated {
    let at = |ip: String, port: u16| match transport {
        Transport::Tcp => format!("/ip4/{ip}/tcp/{port}"),
        Transport::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
    };
    let address = at(lab.router(0).address().to_string(), OUTSIDE);
    let listen = at("0.0.0.0".to_owned(), INSIDE);
    Stated { args: ["--listen".to_owned(), listen, "--external".to_owned(), address.clone()], address }
}

/// A relay on the internet, and how it is named.
async fn relay(world: &World, lab: &Lab) -> Result<(Program, String)> {
    let relay = world.launch(lab.relay(), "relay", "relay")?.args(["--external", "auto"]).spawn()?;
    let address = listening(&relay, "/ip4/73.0.0.2/tcp/").await?;
    Ok((relay, format!("{address}/p2p/{}", world.peer_id("relay").await?)))
}

/// The client knows the server's relay and nothing else: the server says the rest, and the client comes in there.
pub(crate) async fn by_a_relay(transport: Transport) -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new(HOPELESS))?);
    lab.forward_port(0, OUTSIDE, INSIDE)?;
    let (relay, at) = relay(&world, &lab).await?;
    let Stated { address, args } = stated(&lab, transport);
    let server = world.launch(lab.host(0), "server", "server")?.args(&args).args(["--relay", &at]);
    let server = server.spawn()?;
    let offered = |event: &Event| event.has("address", &address);
    server.wait_for("candidate_found", offered, SOON).await?;
    let confirmed = server.wait_for("address_confirmed", offered, SOON).await;
    confirmed.with_context(|| format!("{}\n{}", relay.report(), server.report()))?;
    let peer = world.peer_id("server").await?;
    let client = world.launch(lab.host(1), "client", "client")?;
    let client = client.args(["--peer", &peer, "--relay", &at]).spawn()?;
    let comes_in = async {
        let dialled = client.wait_for("upgrade_succeeded", |_| true, SOON).await?;
        ensure!(dialled.has("rung", "mapped"), "{dialled}");
        // Whoever comes in does not say which of our addresses it dialled.
        let came = server.wait_for("upgrade_succeeded", |_| true, SOON).await?;
        ensure!(came.has("rung", "mapped") || came.has("rung", "inbound"), "{came}");
        let opened = |event: &Event| {
            let at = event.text("address").unwrap_or_default();
            event.has("path", "direct") && event.has("peer", &peer) && at.starts_with(&address)
        };
        client.wait_for("connection_opened", opened, SOON).await?;
        let said = server.events();
        ensure!(said.iter().all(|event| event.name() != "external_unanswered"), "a false alarm");
        Ok(())
    };
    comes_in.await.with_context(|| format!("{}\n{}", server.report(), client.report()))
}

/// All that the other side has is the ticket that `expose` prints, and there is no relay anywhere.
pub(crate) async fn by_a_ticket() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new(HOPELESS))?);
    lab.forward_port(0, OUTSIDE, INSIDE)?;
    let Stated { address, args } = stated(&lab, Transport::Tcp);
    // Where it says its events it prints no command for people.
    let server = Launch::program(lab.host(0), binary("punchline")?).args(["expose", "web", "8000"]);
    let server = server.args(["--identity", &world.identity("server")]).args(&args).spawn()?;
    server.wait_for_text(TICKET, SOON).await?;
    let report = server.report();
    let ticket = report.split_whitespace().find_map(|word| word.strip_prefix(TICKET));
    let ticket = ticket.context("a ticket")?;
    let client = world.launch(lab.host(1), "forward", "client")?.env("PUNCHLINE_TICKET", ticket);
    let client = client.args(["--local", "127.0.0.1:26111"]).spawn()?;
    let opened = |event: &Event| {
        let at = event.text("address").unwrap_or_default();
        event.has("path", "direct") && at.starts_with(&address)
    };
    let opened = client.wait_for("connection_opened", opened, SOON).await;
    opened.with_context(|| format!("{}\n{}", server.report(), client.report())).map(drop)
}

/// The warning names what to look at, the two meet by a punch all the same, and once the port is forwarded it ends.
pub(crate) async fn not_forwarded() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving; 2]))?);
    let (_relay, at) = relay(&world, &lab).await?;
    let Stated { address, args } = stated(&lab, Transport::Tcp);
    let server = world.launch(lab.host(0), "server", "server")?.args(&args).args(["--relay", &at]);
    let server = server.spawn()?;
    let is_stated = |event: &Event| event.has("address", &address);
    let unanswered = server.wait_for("external_unanswered", is_stated, SOON).await?;
    let inside = format!("/ip4/{}/tcp/{INSIDE}", lab.host(0).address());
    ensure!(unanswered.has("listener", &inside), "{unanswered}");
    let remedy = format!("TCP port {OUTSIDE} to this host, {}, port {INSIDE}", lab.host(0).address());
    server.wait_for_text(&remedy, SOON).await?;

    let peer = world.peer_id("server").await?;
    let client = world.launch(lab.host(1), "client", "client")?;
    let client = client.args(["--peer", &peer, "--relay", &at]).spawn()?;
    for program in [&server, &client] {
        let direct = program.wait_for("upgrade_succeeded", |_| true, SOON).await;
        direct.with_context(|| format!("{}\n{}", server.report(), client.report()))?;
    }
    let screen = ask(&world, "status").await?;
    ensure!(
        screen.contains(&format!("{address} (by --external, but nobody answers there)")),
        "{screen}"
    );
    ensure!(screen.contains(&remedy), "{screen}");

    let before = server.mark();
    lab.forward_port(0, OUTSIDE, INSIDE)?;
    // Somebody mended it and does not want to wait for the next look.
    ask(&world, "retry").await?;
    let confirmed = server.wait_for_after(before, "address_confirmed", is_stated, CONFIRMED).await;
    confirmed.with_context(|| server.report())?;
    let screen = ask(&world, "status").await?;
    ensure!(screen.contains(&format!("{address} (by --external, and a relay reached it)")), "{screen}");
    Ok(())
}

/// What the server's socket answers.
async fn ask(world: &World, question: &str) -> Result<String> {
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let socket = format!("{}.sock", world.identity("server"));
    let output = launch.args([question, "--control", &socket]).output(SOON).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What is before the ticket in the command that is printed.
const TICKET: &str = "PUNCHLINE_TICKET=";

/// Other addresses are tested before it, one after the other, and each takes a relay 6 s to give up.
const CONFIRMED: Duration = Duration::from_secs(60);
