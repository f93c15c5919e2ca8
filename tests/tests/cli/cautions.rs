//! What is hardly meant is said once, at the start, and nothing is refused for it.

use anyhow::{Result, ensure};
use punchline_tests::process::Program;

use crate::world::{LISTEN, NO_RELAY, SOON, World};

/// A relay elsewhere that nobody runs.
const FAR_RELAY: &str = "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

async fn started(world: &World, args: &[&str], allowed: &str) -> Result<Program> {
    let launch = world.launch("server", "server")?.args(["--listen", LISTEN, "--mdns", "off"]);
    let server = launch.args(args).env("PUNCHLINE_ALLOW_ROOT", allowed).spawn()?;
    server.wait_for("listening", |_| true, SOON).await?;
    Ok(server)
}

#[tokio::test]
async fn a_node_that_runs_as_root_says_so_unless_it_is_meant() -> Result<()> {
    let world = World::new()?;
    let root = rustix::process::geteuid().is_root();
    for (allowed, said) in [("false", root), ("true", false)] {
        let server = started(&world, &[], allowed).await?;
        let report = server.report();
        ensure!(report.contains("this runs as root") == said, "{allowed}: {report}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_on_loopback_alone_with_a_relay_elsewhere_says_that_nobody_comes_in() -> Result<()> {
    let world = World::new()?;
    for (relay, said) in [(FAR_RELAY, true), (NO_RELAY, false)] {
        let server = started(&world, &["--relay", relay], "true").await?;
        let report = server.report();
        ensure!(report.contains("it listens on loopback alone") == said, "{relay}: {report}");
    }
    let external = "/ip4/192.0.2.1/tcp/4001";
    let launch = world.launch("relay", "relay")?.args(["--listen", LISTEN, "--external", external]);
    let relay = launch.args(["--stun-listen", "off"]).spawn()?;
    Ok(relay.wait_for_text("it listens on loopback alone", SOON).await?)
}
