//! `--events` and `--log-format`: what machines read.

use std::fs;

use anyhow::Result;
use punchline_tests::process::{Launch, Place};
use serde_json::Value;

use crate::world::{LISTEN, NO_PEER, SOON, World, refused};

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
    assert!(stderr.contains("is not reached: ") && !stderr.contains("\"ts\""), "{stderr}");
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
    assert!(last.contains("is `punchline server` running there"), "what to do: {last}");
    assert!(objects(log)?.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    Ok(())
}

/// What such a life logs when nothing is in its way.
const LIFE: usize = 3;

#[tokio::test]
async fn a_full_disk_is_said_once_and_what_was_lost_is_counted_at_the_end() -> Result<()> {
    let world = World::new()?;
    let (stdout, stderr) = life(&world, &["--events", "/dev/full"]).await?;
    assert!(stdout.is_empty());
    assert_eq!(stderr.matches("cannot write events to /dev/full").count(), 1, "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
    let lost = stderr.lines().find(|line| line.contains("the last events to /dev/full were lost"));
    assert!(lost.is_some_and(|line| line.contains(&format!("lost: {LIFE}"))), "{stderr}");
    assert!(
        stderr.trim_end().lines().last().is_some_and(|last| last.starts_with("error: ")),
        "{stderr}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_may_grow_no_more_holds_whole_lines_and_the_program_lives() -> Result<()> {
    let world = World::new()?;
    let file = world.write("events", &format!("{}\n", "x".repeat(1023 - 100)))?;
    let binary = punchline_tests::process::binary("punchline")?;
    // `ulimit -f` counts blocks of 1024 bytes: the first event does not fit any more.
    let launch = Launch::program(Place::Host, "bash").args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""]);
    let launch = launch.args([binary]).args(["client", "--listen", LISTEN, "--peer", NO_PEER]);
    let launch = launch.args(["--addr", "/ip4/127.0.0.1/tcp/1", "--dial-attempts", "1"]);
    let launch = launch.args(["--identity", &world.text("identity"), "--events", &file]);
    let output = launch.output(SOON).await?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("File too large") && stderr.contains("lost: "), "{stderr}");
    let text = fs::read_to_string(&file)?;
    assert!(text.ends_with('\n'), "{text}");
    objects(text.split_once('\n').unwrap().1)?;
    Ok(())
}

#[tokio::test]
async fn a_bounded_file_of_events_is_moved_away_and_every_line_is_whole() -> Result<()> {
    let world = World::new()?;
    let file = world.text("events");
    let lives = 20;
    for _ in 0..lives {
        life(&world, &["--events", &file, "--events-max-bytes", "4096"]).await?;
    }
    let (young, old) = (fs::read_to_string(&file)?, fs::read_to_string(world.path("events.1"))?);
    assert!(young.len() <= 4096 && old.len() <= 4096);
    let kept = objects(&old)?.len() + objects(&young)?.len();
    assert!(kept < LIFE * lives && old.len() > 2048, "{kept} events are kept");
    for unbounded in ["-", "/dev/null"] {
        let launch = world.quiet("server", "identity")?.args(["--events", unbounded]);
        let output = launch.args(["--events-max-bytes", "4096"]).output(SOON).await?;
        refused(&output, 2, &["--events", "bounded"]);
    }
    Ok(())
}
