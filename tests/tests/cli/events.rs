//! `--events` and `--log-format`: what machines read.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::world::{LISTEN, SOON, World};

fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// A client that gives up at once: a whole life with events in it.
async fn life(world: &World, args: &[&str]) -> Result<(String, String)> {
    let peer = world.peer_id("peer").await?;
    let launch = world.quiet("client", "identity")?.args(["--listen", LISTEN, "--peer", &peer]);
    let launch = launch.args(["--addr", "/ip4/127.0.0.1/tcp/1", "--dial-attempts", "1"]);
    let output = launch.args(args).output(SOON).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[tokio::test]
async fn events_are_appended_to_the_file_each_with_its_time_and_name() -> Result<()> {
    let world = World::new()?;
    let file = world.text("events");
    for lives in 1..=2 {
        let (stdout, _) = life(&world, &["--events", &file]).await?;
        assert!(stdout.is_empty());
        let events = objects(&fs::read_to_string(&file)?)?;
        let names: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
        assert_eq!(names, ["listening", "dial_failed", "stopped"].repeat(lives));
        for event in &events {
            let time = event["ts"].as_str().unwrap_or_default();
            assert!(time.len() == 27 && time.ends_with('Z'), "{event}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn standard_output_holds_events_alone_and_standard_error_the_log() -> Result<()> {
    let world = World::new()?;
    let (stdout, stderr) = life(&world, &["--events", "-", "-vv"]).await?;
    assert_eq!(objects(&stdout)?.len(), 3);
    assert!(stderr.contains("dial_failed") && !stderr.contains("\"ts\""));
    let (stdout, _) = life(&world, &[]).await?;
    assert!(stdout.is_empty(), "no events unless asked for: {stdout}");
    Ok(())
}

#[tokio::test]
async fn every_line_of_a_json_log_is_an_object_but_for_the_last_words() -> Result<()> {
    let world = World::new()?;
    let (_, stderr) = life(&world, &["--log-format", "json", "-v"]).await?;
    let (log, last) = stderr.trim_end().rsplit_once('\n').unwrap();
    assert!(last.starts_with("error: "), "{last}");
    assert!(objects(log)?.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    Ok(())
}
