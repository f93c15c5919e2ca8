//! `punchline demo` tells the whole story, to people and to machines.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::world::{SOON, World};

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
