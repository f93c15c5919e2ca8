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
        assert!(story["bytes"]["sent_direct"].as_u64() >= Some(16 << 20), "{}", story["bytes"]);
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
    assert!(told.matches('✓').count() >= 6 && !told.contains('✗'), "{told}");
    assert!(!told.contains('\u{1b}'), "no colours in a pipe");
    Ok(())
}
