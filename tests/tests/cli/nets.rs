//! Ranges that the operator keeps away, in a file that SIGHUP has read again.

use std::fs;

use anyhow::Result;
use punchline_tests::process::Event;

use crate::world::{LISTEN, SOON, STOP, World, refused};

#[tokio::test]
async fn a_file_of_ranges_is_read_again_and_a_wrong_one_leaves_the_old_ranges_in_force() -> Result<()> {
    let world = World::new()?;
    let nets = world.write("nets", "deny 127.0.0.0/8 # everybody here\n")?;
    let (mut relay, address) = world.relay(&["--net-file", &nets]).await?;
    let server = world.launch("server", "server")?.args(["--listen", LISTEN, "--relay", &address]);
    let mut server = server.spawn()?;
    let by_ranges = |event: &Event| event.text("whose") == Some("ranges");
    relay.wait_for("refused", by_ranges, SOON).await?;
    fs::write(&nets, "deny everybody\n")?;
    relay.hang_up()?;
    let wrong = |event: &Event| event.text("error").is_some_and(|error| error.contains("line 1"));
    relay.wait_for("nets_reloaded", wrong, SOON).await?;
    let mark = relay.mark();
    relay.wait_for_after(mark, "refused", by_ranges, SOON).await?;
    fs::write(&nets, "deny 10.0.0.0/8\n")?;
    relay.hang_up()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    assert!(relay.terminate(STOP).await?.success() && server.terminate(STOP).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_file_of_ranges_that_is_wrong_at_the_start_is_a_wrong_setting() -> Result<()> {
    let world = World::new()?;
    let nets = world.write("nets", "allow 10.0.0.0/8\npermit 127.0.0.0/8\n")?;
    for (command, rest) in [("relay", vec!["--external", "auto"]), ("server", vec![])] {
        let program = world.quiet(command, command)?.args(["--check", "--net-file", &nets]).args(rest);
        refused(&program.output(SOON).await?, 2, &["line 2: `permit"]);
    }
    Ok(())
}
