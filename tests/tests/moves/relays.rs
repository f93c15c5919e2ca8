//! A session over one of two relays, with no direct way, whose relay dies: it goes on over the other one.
//!
//! The promises are 1 s for a relay that is killed and 3 s for one that hangs or whose cable is pulled; here they have a
//! second more, for unoptimised programs on a busy machine. `--example relay_death` measures.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{LabSpec, Nat};
use punchline_tests::process::Event;
use punchline_tests::relay_death::{Death, Talk, relay_dies};
use punchline_tests::scene::{Cast, Scene, Transport, same_load};
use punchline_tests::trial::lab_trial;

use super::{CLIENT, LOAD_DEADLINE, LOAD_MIB, MOVE_DEADLINE, SERVER, tell};

const KILLED_MAX: Duration = Duration::from_secs(2);
/// What is said on links to a relay and on circuits in two minutes, and far less than the load.
const INTRODUCTIONS_BYTES: u64 = 1024 * 1024;

const SILENT_MAX: Duration = Duration::from_secs(4);

/// Over TCP and QUIC.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for on in [Transport::Tcp, Transport::Quic] {
        let name = |claim: &str| format!("{claim}_over_{on}");
        trials.extend([
            lab_trial(&name("no_byte_of_a_service_crosses_a_relay_that_only_introduces"), move || {
                only_introduced(on)
            }),
            lab_trial(
                &name("a_session_is_over_the_other_relay_soon_after_its_relay_was_killed"),
                move || elsewhere(on, Death::Killed, &[Talk::Load, Talk::Idle, Talk::Load], KILLED_MAX),
            ),
            lab_trial(&name("a_session_leaves_a_relay_that_hangs_for_the_other_one"), move || {
                elsewhere(on, Death::Halted, &[Talk::Idle], SILENT_MAX)
            }),
            lab_trial(
                &name("a_load_leaves_a_relay_whose_cable_was_pulled_for_the_other_one"),
                move || elsewhere(on, Death::Cut, &[Talk::Load], SILENT_MAX),
            ),
        ]);
    }
    trials
}

/// Nobody can punch, and then somebody can.
async fn only_introduced(on: Transport) -> Result<()> {
    let mut scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), on).await?;
    scene.lab.cut_direct(SERVER, CLIENT)?;
    scene.start_nodes_with(&["--relay-mode", "coordination"]);
    let load = ["--load-mib", &LOAD_MIB.to_string(), "--dial-attempts", "0"];
    let cast = Cast::start(&scene, &load).await?;
    let waited = waits_for_a_direct_path(&scene, &cast).await;
    cast.explain(waited)
}

async fn waits_for_a_direct_path(scene: &Scene, cast: &Cast) -> Result<()> {
    let failed = cast.client.wait_for("dial_failed", |_| true, MOVE_DEADLINE).await?;
    let reason = failed.text("reason").unwrap_or_default();
    let says = "relay mode is coordination and no direct path came about";
    ensure!(reason.contains(says), "{failed}");
    scene.lab.mend_direct(SERVER, CLIENT)?;
    let direct = |event: &Event| event.has("path", "direct");
    cast.both("session_ready", direct, MOVE_DEADLINE).await?;
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    ensure!(same_load(&arrived, &sent, LOAD_MIB), "{arrived} {sent}");
    for program in [&cast.server, &cast.client] {
        let relayed =
            |event: &Event| event.name().starts_with("stream_") && event.text("relay").is_some();
        let events = program.events();
        ensure!(!events.iter().any(relayed), "a stream ran through the relay: {events:?}");
    }
    let crossed = scene.lab.relay_link_bytes()?;
    tell(&format!("COORDINATION {crossed} bytes crossed the relay's link, {LOAD_MIB} MiB did not"));
    ensure!(crossed < INTRODUCTIONS_BYTES, "{crossed} bytes crossed the relay's link");
    Ok(())
}

/// In a scene of its own for each.
async fn elsewhere(on: Transport, death: Death, talks: &[Talk], within: Duration) -> Result<()> {
    for talk in talks {
        let elsewhere = relay_dies(on, death, *talk).await;
        let elsewhere = elsewhere.with_context(|| format!("{talk:?}"))?;
        tell(&format!("GAPS {death:?} {on} {talk:?}: elsewhere after {elsewhere}"));
        ensure!(elsewhere.took < within && elsewhere.gap < within, "{talk:?}: {elsewhere}");
    }
    Ok(())
}
