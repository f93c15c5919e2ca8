//! Programs that may not open some kinds of sockets.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use punchline_tests::{
    lab::{Lab, LabSpec, Nat},
    process::Place,
};

use crate::world::{LOOPBACK, SOON, World, listening, not_listening};

pub(crate) async fn no_ipv6() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay().await?;
    let launch = world.confined(Place::Host, &["ipv6"], "server", "server")?.args(LOOPBACK);
    let server = launch.args(["--relay", &relay]).spawn()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    for address in ["/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"] {
        let cause = not_listening(&server, address).await?;
        ensure!(cause.contains("os error 97") && cause.contains("this host has no IPv6"), "{cause}");
    }
    ensure!(server.report().matches("WARN  not listening on /ip6").count() == 2, "{}", server.report());
    Ok(())
}

pub(crate) async fn given_wildcard() -> Result<()> {
    let world = World::new()?;
    let both = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip6/::/tcp/0"];
    let server = world.confined(Place::Host, &["ipv6"], "server", "server")?.args(both).spawn()?;
    listening(&server, "/ip4/127.0.0.1/tcp/").await?;
    not_listening(&server, "/ip6/::/tcp/0").await?;

    // An address that was named is meant.
    let named = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip6/::1/tcp/0"];
    let launch = world.confined(Place::Host, &["ipv6"], "server", "named")?.args(named);
    let output = launch.output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && said.contains("cannot listen on /ip6/::1/tcp/0"),
        "{said}"
    );
    Ok(())
}

pub(crate) async fn no_udp() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay().await?;
    let launch = world.confined(Place::Host, &["udp"], "server", "server")?.args(LOOPBACK);
    let server = launch.args(["--relay", &relay]).spawn()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    let cause = not_listening(&server, "/ip4/0.0.0.0/udp/0/quic-v1").await?;
    ensure!(cause.contains("os error 1"), "{cause}");
    Ok(())
}

pub(crate) async fn nothing() -> Result<()> {
    let world = World::new()?;
    let launch = world.confined(Place::Host, &["udp", "ipv6"], "server", "server")?;
    let args = ["--listen", "/ip6/::/tcp/0", "--listen", "/ip6/::/udp/0/quic-v1"];
    let output = launch.args(args).output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    ensure!(last.starts_with("error: ") && last.contains("/ip6/::/"), "{said}");
    Ok(())
}

pub(crate) async fn no_netlink() -> Result<()> {
    let world = World::new()?;
    let (_outer, outer) = world.relay().await?;
    let launch = world.confined(Place::Host, &["netlink"], "server", "server")?.args(LOOPBACK);
    let server = launch.args(["--relay", &outer]).spawn()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    listening(&server, "/ip4/127.0.0.1/tcp/").await?;
    listening(&server, "/ip4/127.0.0.1/udp/").await?;
    let said = server.report().matches("AF_NETLINK").count();
    ensure!(said == 1, "said {said} times\n{}", server.report());

    // And it is reached, over either transport.
    let launch = world.confined(Place::Host, &["netlink"], "relay", "confined")?.args(LOOPBACK);
    let relay = launch.args(["--external", "auto"]).spawn()?;
    for (n, prefix) in ["/ip4/127.0.0.1/tcp/", "/ip4/127.0.0.1/udp/"].iter().enumerate() {
        let address = listening(&relay, prefix).await?;
        let address = format!("{address}/p2p/{}", world.peer_id("confined").await?);
        let launch = world.launch(Place::Host, "server", &format!("server-{n}"))?.args(LOOPBACK);
        let server = launch.args(["--relay", &address]).spawn()?;
        server.wait_for("reservation_held", |_| true, SOON).await?;
    }
    Ok(())
}

pub(crate) async fn address_comes() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving]))?);
    let server = world.confined(lab.host(0), &["netlink"], "server", "server")?.spawn()?;
    listening(&server, "/ip4/192.168.1.2/tcp/").await?;
    lab.host(0).configure("addr add 192.168.1.77/24 dev eth0\n")?;
    let added = Instant::now();
    for transport in ["tcp", "udp"] {
        listening(&server, &format!("/ip4/192.168.1.77/{transport}/")).await?;
    }
    ensure!(added.elapsed() < Duration::from_secs(10), "it took {:?}", added.elapsed());
    Ok(())
}
