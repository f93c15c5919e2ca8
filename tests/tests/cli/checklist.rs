//! The checklist of the operator's guide, typed.

use anyhow::{Context as _, Result, ensure};

use crate::world::{SOON, World};

const GUIDE: &str = include_str!("../../../design/operate.md");

/// The commands of the checklist, in their order.
fn commands() -> Result<Vec<&'static str>> {
    let section = GUIDE.split("\n## A checklist\n").nth(1).context("no checklist")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.flat_map(str::lines).collect())
}

/// The settings of the guide's relay, less the addresses of a machine that this is not.
const RELAY_FILE: &str = "listen = [\"/ip4/127.0.0.1/tcp/4001\"]\n";

#[tokio::test]
async fn each_command_of_the_checklist_does_what_it_is_there_for() -> Result<()> {
    let world = World::new()?;
    let file = world.write("relay.toml", RELAY_FILE)?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &[]).await?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    let (peer, control) = (world.peer_id("client").await?, world.text("server.sock"));
    let commands = commands()?;
    ensure!(commands.len() == 13, "{commands:?}");
    for command in commands {
        let typed = command.replace("/etc/punchline/relay.toml", &file).replace("<relay>", &relay);
        let typed = typed.replace("<peer>", &peer);
        let mut words = typed.split(' ');
        ensure!(words.next() == Some("punchline") && !typed.contains('<'), "{command}");
        let mut launch = world.bare()?.args(words).env("PUNCHLINE_IDENTITY", world.text("own"));
        if !typed.contains("--config") {
            launch = launch.env("PUNCHLINE_CONTROL", &control);
        }
        if typed.starts_with("punchline doctor firewall --listen") {
            launch = launch.env("PUNCHLINE_CONTROL", "off");
        }
        let output = launch.output(SOON).await?;
        // This server listens on loopback alone, where nothing is to be opened, and that is said.
        let said = String::from_utf8_lossy(&output.stderr);
        let nothing = typed == "punchline doctor firewall" && said.contains("there is no port to open");
        ensure!(output.status.success() || nothing, "{command}: {output:?}\n{}", server.report());
        ensure!(nothing || !output.stdout.is_empty() || typed.contains("wait-ready"), "{command}");
    }
    Ok(())
}
