//! Hosts change networks: Wi-Fi, cable, mobile behind a carrier's NAT; one end, the other, both; there and back.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::scene::Transport;
use punchline_tests::switching::{Awake, Switch, outage, sleeps};
use punchline_tests::trial::lab_trial;

use super::{DEATH_GAP, tell};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |switch: Switch| {
        let words = switch.to_string().replace("->", "_to_").replace([' ', '+'], "_");
        lab_trial(&format!("a_conversation_outlives_a_change_of_networks_of_{words}"), move || {
            outlives(switch)
        })
    };
    let mut trials: Vec<_> = Switch::eighteen().into_iter().map(trial).collect();
    for on in [Transport::Tcp, Transport::Quic] {
        let name = |claim: &str| format!("{claim}_over_{on}");
        trials.extend([
            lab_trial(&name("a_conversation_goes_on_soon_after_there_is_a_network_again"), move || {
                network_again(on)
            }),
            lab_trial(&name("a_conversation_goes_on_soon_after_its_program_slept"), move || awake(on)),
        ]);
    }
    trials
}

async fn network_again(on: Transport) -> Result<()> {
    let took = outage(on, AWAY).await?;
    tell(&format!("OUTAGE {on}: heard after {} ms", took.as_millis()));
    ensure!(took < DEATH_GAP, "heard only after {took:?}");
    Ok(())
}

async fn awake(on: Transport) -> Result<()> {
    let Awake { relay, heard } = sleeps(on, AWAY).await?;
    tell(&format!(
        "AWAKE {on}: relay after {} ms, heard after {} ms",
        relay.as_millis(),
        heard.as_millis()
    ));
    ensure!(relay < AT_ONCE, "its relay was there only after {relay:?}");
    ensure!(heard < DEATH_GAP, "heard only after {heard:?}");
    Ok(())
}

/// Longer than libp2p's pings are waited for, and shorter than a stream's patience.
const AWAY: Duration = Duration::from_secs(22);

/// Promised.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn outlives(switch: Switch) -> Result<()> {
    let moved = switch.run().await?;
    for (way, moved) in ["there", "back"].into_iter().zip(moved) {
        tell(&format!("SWITCH {switch} {way}: {moved}"));
    }
    for moved in moved {
        ensure!(moved.silence < DEATH_GAP, "{moved}");
    }
    Ok(())
}
