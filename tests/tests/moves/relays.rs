//! A session over one of two relays, with no direct way, whose relay dies: it goes on over the other one.
//!
//! The promises are 1 s for a relay that is killed and 3 s for one that hangs or whose cable is pulled; here they have a
//! second more, for unoptimised programs on a busy machine. `--example relay_death` measures.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::relay_death::{Death, Talk, relay_dies};
use punchline_tests::scene::Transport;
use punchline_tests::trial::lab_trial;

use super::tell;

const KILLED_MAX: Duration = Duration::from_secs(2);
const SILENT_MAX: Duration = Duration::from_secs(4);

/// Over TCP and QUIC.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for on in [Transport::Tcp, Transport::Quic] {
        let name = |claim: &str| format!("{claim}_over_{on}");
        trials.extend([
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
