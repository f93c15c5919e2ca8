//! `punchline demo` tells the whole story, to people and to machines.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::world::{LISTEN, SOON, STOP, World};

/// For a whole demo on a machine that is busy with others.
const DONE: Duration = SOON.saturating_mul(8);

#[tokio::test]
async fn two_demos_at_once_both_print_one_json_object_that_says_ok() -> Result<()> {
    let world = World::new()?;
    let demo = || Ok::<_, anyhow::Error>(world.quiet("demo", "unused")?.args(["--json"]));
    let (one, other) = tokio::try_join!(demo()?.output(DONE), demo()?.output(DONE))?;
    for output in [one, other] {
        assert!(output.status.success(), "{output:?}");
        let story: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(story["ok"], true);
        let claims = story["claims"].as_array().unwrap();
        assert!(!claims.is_empty() && claims.iter().all(|claim| claim["holds"] == true));
        assert!(story["bytes"]["sent_direct"].as_u64() >= Some(32 << 20), "{}", story["bytes"]);
        let moves = story["moves"].as_array().unwrap();
        let to: Vec<_> = moves.iter().map(|moved| moved["to"].as_str()).collect();
        assert_eq!(to, [Some("direct"), Some("relayed"), Some("direct")], "{story}");
        let gaps = moves.iter().flat_map(|moved| [&moved["client_gap_ms"], &moved["server_gap_ms"]]);
        let worst = gaps.filter_map(Value::as_f64).fold(0.0, f64::max);
        assert_eq!(story["gap_ms"].as_f64(), Some(worst), "{story}");
        assert!(output.stdout.ends_with(b"}\n"));
    }
    assert!(world.files()?.is_empty(), "the demo uses identities of its own");
    Ok(())
}

#[tokio::test]
async fn the_demo_ticks_every_claim() -> Result<()> {
    let world = World::new()?;
    let output = world.quiet("demo", "unused")?.output(DONE).await?;
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout)?;
    assert!(told.matches('✓').count() == 7 && !told.contains('✗'), "{told}");
    assert!(!told.contains('\u{1b}'), "no colours in a pipe");
    assert!(told.lines().all(|line| line.chars().count() < 80), "{told}");
    assert!(told.lines().count() <= 24, "{told}");
    Ok(())
}

#[tokio::test]
async fn a_rehearsal_ends_with_its_demo_and_nothing_else_reads_standard_input() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    // Standard input is at its end from the start.
    let mut plain = world.server(&relay, &[]).await?;
    let args = ["--relay", &relay, "--listen", LISTEN, "--rehearse"];
    let output = world.quiet("server", "rehearsing")?.args(args).output(SOON).await?;
    assert!(output.status.success(), "{output:?}");
    // The other one had the same input for longer, and runs on.
    assert!(plain.terminate(STOP).await?.success());
    Ok(())
}

#[tokio::test]
async fn the_flag_of_the_demo_is_not_offered_to_people() -> Result<()> {
    let world = World::new()?;
    for command in ["server", "client"] {
        let output = world.bare()?.args([command, "--help"]).output(SOON).await?;
        assert!(output.status.success(), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("rehearse"), "{output:?}");
    }
    Ok(())
}
