//! One port has one owner.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use punchline_tests::{ports::free_port, process::Place};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::world::{LOOPBACK, SOON, World, listening};

pub(crate) async fn twenty() -> Result<()> {
    let (world, port) = (World::new()?, free_port(Ipv4Addr::LOCALHOST)?.port());
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let start = |n: usize| {
        let launch = world.launch(Place::Host, "relay", &format!("relay-{n}"))?;
        launch.args(["--listen", &address]).spawn().map_err(anyhow::Error::from)
    };
    let mut relays = (0..20).map(start).collect::<Result<Vec<_>>>()?;
    // Of each: whether it listens, or else ended as it should.
    let outcomes = join_all(relays.iter_mut().map(async |relay| {
        let listens = relay.wait_for("listening", |_| true, SOON).await.is_ok();
        let code = if listens { None } else { relay.wait(SOON).await?.code() };
        let reason = format!("TCP port {port} is taken by punchline (process ");
        let says_why = !listens && relay.wait_for_text(&reason, SOON).await.is_ok();
        anyhow::Ok((listens, code == Some(1) && says_why, relay.report()))
    }))
    .await;
    let mut winners = 0;
    for outcome in outcomes {
        let (listens, refused, report) = outcome?;
        winners += usize::from(listens);
        ensure!(listens || refused, "{report}");
    }
    ensure!(winners == 1, "{winners} relays listen on one port");
    Ok(())
}

pub(crate) async fn foreign() -> Result<()> {
    let world = World::new()?;
    // As a program that lets others share its port, and libp2p would.
    let foreign = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&foreign, true)?;
    sockopt::set_socket_reuseport(&foreign, true)?;
    bind(&foreign, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
    listen(&foreign, 1)?;
    let foreign = std::net::TcpListener::from(foreign);
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let taken = [
        ("TCP", foreign.local_addr()?.port(), ["/ip4/127.0.0.1/tcp/", ""]),
        ("TCP", foreign.local_addr()?.port(), ["/ip4/0.0.0.0/tcp/", ""]),
        ("UDP", datagrams.local_addr()?.port(), ["/ip4/127.0.0.1/udp/", "/quic-v1"]),
    ];
    for (protocol, port, [before, after]) in taken {
        let launch = world.launch(Place::Host, "server", "server")?;
        let output = launch.args(["--listen", &format!("{before}{port}{after}")]).output(SOON).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("(process {})", std::process::id());
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(said.contains(&format!("{protocol} port {port} is taken by ")), "{said}");
        ensure!(said.contains(&expected), "{expected} is missing in: {said}");
    }
    Ok(())
}

pub(crate) async fn restart() -> Result<()> {
    let (world, port) = (World::new()?, free_port(Ipv4Addr::LOCALHOST)?.port());
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let start = || {
        let launch = world.launch(Place::Host, "relay", "relay")?.args(LOOPBACK);
        launch.args(["--listen", &address]).spawn().map_err(anyhow::Error::from)
    };
    let mut relay = start()?;
    listening(&relay, &address).await?;
    let relay_address = format!("{address}/p2p/{}", world.peer_id("relay").await?);
    let launch = world.launch(Place::Host, "server", "server")?.args(LOOPBACK);
    let server = launch.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--relay", &relay_address]).spawn()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    relay.kill().await?;
    // The connection of the server is still on the system's mind.
    let relay = start()?;
    listening(&relay, &address).await?;
    Ok(())
}

pub(crate) async fn outside() -> Result<()> {
    let (world, port) = (World::new()?, free_port(Ipv4Addr::LOCALHOST)?.port());
    let address = format!("/ip4/203.0.113.7/tcp/{port}");
    let launch = world.launch(Place::Host, "relay", "relay")?;
    let output = launch.args(["--listen", &address]).output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(said.contains("os error 99") && said.contains("127.0.0.1"), "{said}");
    let (_, command) = said.trim_end().split_once("punchline relay ").context("a command")?;

    let launch = world.launch(Place::Host, "relay", "relay")?;
    let relay = launch.args(command.split(' ')).spawn()?;
    listening(&relay, &format!("/ip4/127.0.0.1/tcp/{port}")).await?;
    let announced = format!("peers use: --relay {address}/p2p/{}", world.peer_id("relay").await?);
    relay.wait_for_text(&announced, SOON).await?;
    let launch = world.launch(Place::Host, "server", "server")?;
    let output = launch.args(["--listen", &address]).output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("/ip4/0.0.0.0") && !said.contains("--external"), "{said}");
    Ok(())
}
