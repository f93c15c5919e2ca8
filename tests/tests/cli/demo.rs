//! `punchline demo` tells the whole story, to people and to machines.

use anyhow::Result;
use serde_json::Value;

use crate::world::{SOON, World};

#[tokio::test]
async fn two_demos_at_once_both_print_one_json_object_that_says_ok() -> Result<()> {
    let world = World::new()?;
    let demo = || Ok::<_, anyhow::Error>(world.quiet("demo", "unused")?.args(["--json"]));
    let (one, other) = tokio::try_join!(demo()?.output(SOON * 2), demo()?.output(SOON * 2))?;
    for output in [one, other] {
        assert!(output.status.success(), "{output:?}");
        let story: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(story["ok"], true);
        let claims = story["claims"].as_array().unwrap();
        assert!(!claims.is_empty() && claims.iter().all(|claim| claim["holds"] == true));
        assert!(output.stdout.ends_with(b"}\n"));
    }
    assert!(world.files()?.is_empty(), "the demo uses identities of its own");
    Ok(())
}

#[tokio::test]
async fn the_demo_ticks_every_claim() -> Result<()> {
    let world = World::new()?;
    let output = world.quiet("demo", "unused")?.output(SOON * 2).await?;
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout)?;
    assert!(told.matches('✓').count() >= 6 && !told.contains('✗'), "{told}");
    assert!(!told.contains('\u{1b}'), "no colours in a pipe");
    Ok(())
}
