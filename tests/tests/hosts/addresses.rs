//! Hosts with no, later, and very many addresses.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use punchline_tests::{
    lab::{Lab, LabSpec, Nat},
    scene::{Cast, Scene, Transport},
};

use crate::world::{NO_PEER, SOON, World, listening, not_listening};

/// IPv6 is switched off on all machines of a lab, as `sysctl` does it: sockets can be had, addresses not.
pub(crate) async fn ipv6_off() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving]))?);
    let start = Instant::now();
    let relay = world.launch(lab.relay(), "relay", "relay")?.args(["--external", "auto"]).spawn()?;
    let address = listening(&relay, "/ip4/73.0.0.2/tcp/").await?;
    let address = format!("{address}/p2p/{}", world.peer_id("relay").await?);
    let reserving = ["--relay", &address];
    let expose = ["--service", "a=127.0.0.1:1", "--allow", NO_PEER];
    let forward = ["--peer", NO_PEER, "--service", "a", "--local", "127.0.0.1:0"];
    let commands: [(&str, &[&str]); 3] = [("server", &[]), ("expose", &expose), ("forward", &forward)];
    for (command, args) in commands {
        let started = Instant::now();
        let launch = world.launch(lab.host(0), command, command)?.args(reserving).args(args);
        let program = launch.spawn()?;
        listening(&program, "/ip4/192.168.1.2/udp/").await?;
        let took = started.elapsed();
        ensure!(took < Duration::from_secs(4), "{command} took {took:?}\n{}", program.report());
        let cause = not_listening(&program, "/ip6/::/tcp/0").await?;
        ensure!(cause.starts_with("no interface has an IPv6 address"), "{cause}");
        if command != "forward" {
            program.wait_for("reservation_held", |_| true, SOON).await?;
        }
    }
    ensure!(start.elapsed() < SOON, "{:?}", start.elapsed());
    Ok(())
}

pub(crate) async fn comes_later() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving]))?);
    let server = world.launch(lab.host(0), "server", "server")?.spawn()?;
    listening(&server, "/ip4/192.168.1.2/tcp/").await?;
    lab.host(0)
        .configure("link add later type bridge\naddr add 10.7.7.7/24 dev later\nlink set later up\n")?;
    for transport in ["tcp", "udp"] {
        listening(&server, &format!("/ip4/10.7.7.7/{transport}/")).await?;
    }
    Ok(())
}

pub(crate) async fn hundreds() -> Result<()> {
    for transport in [Transport::Tcp, Transport::Quic] {
        let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
        let mut bridges = "link add bridges type bridge\nlink set bridges up\n".to_owned();
        for network in 0..800 {
            let (high, low) = (16 + network / 250, network % 250);
            let _ = writeln!(bridges, "addr add 172.{high}.{low}.1/24 dev bridges");
        }
        for host in [0, 1] {
            scene.lab.host(host).configure(&bridges)?;
        }
        let cast = Cast::start(&scene, &[]).await?;
        let direct = cast.both("upgrade_succeeded", |_| true, SOON).await.map(drop);
        cast.explain(direct.map_err(Into::into))?;
    }
    Ok(())
}
