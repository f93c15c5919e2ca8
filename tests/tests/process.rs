//! The process harness, proven with shell scripts before it judges the product.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::FutureExt as _;
use punchline_tests::process::{EVENTS_MAX, Launch, Place, Program, ProgramError};
use rustix::process::{Pid, Signal, kill_process};

#[tokio::test]
async fn an_event_seen_before_the_wait_is_returned() -> Result<()> {
    let mut program = script(r#"echo '{"event":"listening","address":"a"}'"#)?;
    program.wait(SOON).await?;
    let event = program.wait_for("listening", |_| true, SOON).await?;
    ensure!(event.text("address") == Some("a"));
    Ok(())
}

#[tokio::test]
async fn an_event_to_come_is_waited_for() -> Result<()> {
    let script = r#"
        sleep 60 > /dev/null 2>&1 &
        trap 'echo "{\"event\":\"held\"}"; kill $!; exit 0' TERM
        echo '{"event":"listening"}'
        wait"#;
    let program = self::script(script)?;
    program.wait_for("listening", |_| true, SOON).await?;
    let mut waiting = pin!(program.wait_for("held", |_| true, SOON));
    ensure!(waiting.as_mut().now_or_never().is_none(), "it is not there yet");
    let pid = program.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    kill_process(pid.context("it runs")?, Signal::TERM)?;
    waiting.await?;
    Ok(())
}

#[tokio::test]
async fn only_an_event_after_the_mark_counts() -> Result<()> {
    let script = r#"
        sleep 60 > /dev/null 2>&1 &
        trap 'echo "{\"event\":\"held\",\"nth\":2}"; kill $!; exit 0' TERM
        echo '{"event":"held","nth":1}'
        wait"#;
    let mut program = self::script(script)?;
    program.wait_for("held", |_| true, SOON).await?;
    let mark = program.mark();
    let status = program.terminate(SOON).await?;
    ensure!(status.success());
    let second = program.wait_for_after(mark, "held", |_| true, SOON).await?;
    ensure!(second.number("nth") == Some(2));
    Ok(())
}

#[tokio::test]
async fn a_deadline_expires_and_tells_what_was_printed() -> Result<()> {
    let program = script(r#"echo '{"event":"other"}'; echo oops >&2; exec sleep 60"#)?;
    program.wait_for("other", |_| true, SOON).await?;
    match program.wait_for("listening", |_| true, Duration::from_millis(50)).await {
        Err(error @ ProgramError::Deadline { .. }) => {
            ensure!(error.to_string().contains(r#"{"event":"other"}"#), "{error}");
            Ok(())
        }
        other => bail!("{other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_a_program_ends_the_wait() -> Result<()> {
    let program = script("echo dying >&2; exit 3")?;
    let ended = program.wait_for("listening", |_| true, SOON).await;
    ensure!(matches!(ended, Err(ProgramError::Ended { .. })), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn more_events_than_the_limit_end_the_wait() -> Result<()> {
    let chatter = format!(r#"yes '{{"event":"chatter"}}' | head -n {}; exec sleep 60"#, EVENTS_MAX + 1);
    let program = script(&chatter)?;
    let ended = program.wait_for("listening", |_| true, SOON).await;
    ensure!(matches!(ended, Err(ProgramError::TooManyEvents { .. })));
    Ok(())
}

#[tokio::test]
async fn a_line_longer_than_the_limit_is_no_event() -> Result<()> {
    let long = r#"printf '{"event":"listening","pad":"'; head -c 100000 /dev/zero | tr '\0' x
        echo '"}'; echo '{"event":"stopped"}'"#;
    let program = script(long)?;
    program.wait_for("stopped", |_| true, SOON).await?;
    ensure!(program.events().len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_reported_and_then_killed() -> Result<()> {
    let mut program = script(r#"trap '' TERM; echo '{"event":"listening"}'; exec sleep 60"#)?;
    program.wait_for("listening", |_| true, SOON).await?;
    let refused = program.terminate(Duration::from_millis(50)).await;
    ensure!(matches!(refused, Err(ProgramError::StillRunning { .. })));
    program.kill().await?;
    ensure!(matches!(program.kill().await, Err(ProgramError::Gone { .. })));
    Ok(())
}

#[tokio::test]
async fn an_answer_is_read_to_the_end() -> Result<()> {
    let output = Launch::program(Place::Host, "echo").args(["an", "answer"]).output(SOON).await?;
    ensure!(output.stdout == b"an answer\n");
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() -> Result<()> {
    let refused = Launch::program(Place::Host, "/no/such/program").spawn();
    ensure!(matches!(refused, Err(ProgramError::Start { .. })));
    Ok(())
}

fn script(text: &str) -> Result<Program> {
    Ok(Launch::program(Place::Host, "sh").args(["-c", text]).spawn()?)
}

/// A shell does any of this at once; only a machine that hangs takes longer.
const SOON: Duration = Duration::from_secs(20);
