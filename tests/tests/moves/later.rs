//! Two NATs that block each other for a minute, and then do not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{LabSpec, Nat};
use punchline_tests::process::{Event, ProgramError};
use punchline_tests::scene::{Cast, Scene, Transport};
use punchline_tests::trial::lab_trial;

use super::{CLIENT, MOVE_DEADLINE, SERVER, tell};

pub(crate) fn trials() -> Vec<Trial> {
    vec![lab_trial(
        "a_session_is_direct_within_35_s_of_two_nats_that_no_longer_block_each_other_over_tcp",
        || blocked_for_a_minute(Transport::Tcp),
    )]
}

async fn blocked_for_a_minute(transport: Transport) -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
    scene.lab.cut_direct(SERVER, CLIENT)?;
    let cast = Cast::start(&scene, &[]).await?;
    let result = becomes_direct_later(&scene, &cast).await;
    cast.explain(result)
}

async fn becomes_direct_later(scene: &Scene, cast: &Cast) -> Result<()> {
    cast.both("session_ready", |_| true, MOVE_DEADLINE).await?;
    let early = cast.both("upgrade_succeeded", |_| true, OUTAGE).await;
    ensure!(matches!(early, Err(ProgramError::Deadline { .. })), "direct through a wall: {early:?}");
    for program in [&cast.server, &cast.client] {
        let said: Vec<Event> =
            program.events().into_iter().filter(|event| event.name() == "upgrade_failed").collect();
        ensure!(said.len() == 1, "one verdict for one reason: {said:?}");
        ensure!(said[0].text("reason").is_some_and(|reason| reason.contains("timed out")), "{said:?}");
    }
    scene.lab.mend_direct(SERVER, CLIENT)?;
    let mended = Instant::now();
    cast.both("upgrade_succeeded", |_| true, AGAIN_DEADLINE).await?;
    cast.both("stream_moved", |event| event.has("to", "direct"), MOVE_DEADLINE).await?;
    let took = mended.elapsed();
    tell(&format!("DIRECT {} ms after the NATs were open", took.as_millis()));
    ensure!(took < AGAIN_DEADLINE, "direct only after {took:?}");
    cast.one_session()
}

const OUTAGE: Duration = Duration::from_secs(60);
/// Promised: from the end of the outage until the session is direct.
const AGAIN_DEADLINE: Duration = Duration::from_secs(35);
