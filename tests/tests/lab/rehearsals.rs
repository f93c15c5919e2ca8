//! The runbook, in the lab: so that it says what the programs do.

use std::fs;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::rehearsal::{Origin, RUNBOOK, Rehearsal, Topology, Verdict, rehearse};
use punchline_tests::trial::lab_trial;

/// The other topologies are rehearsed by people: `lab rehearse`.
pub(crate) fn trials() -> Vec<Trial> {
    vec![lab_trial("the_runbook_makes_two_nats_direct_and_its_log_names_no_address", two_nats)]
}

async fn two_nats() -> Result<()> {
    let rehearsal = rehearse(Topology::TwoNats, &RUNBOOK.parse()?).await?;
    let (verdict, Rehearsal { failure, said, .. }) = (rehearsal.verdict(), &rehearsal);
    ensure!(verdict == Verdict::Direct, "{verdict}: {failure:?}\n{said}");

    let folder = tempfile::tempdir()?;
    let [commit, command, machine] = ["of a test", "cargo test", "any"].map(str::to_owned);
    let page = rehearsal.write(&Origin { commit, command, machine }, folder.path())?;
    let events = page.with_extension("");
    let machines = ["relay", "server", "client"];
    for file in
        machines.map(|machine| events.join(machine).with_extension("jsonl")).iter().chain([&page])
    {
        let text = fs::read_to_string(file)?;
        let address = ["73.0.0.", "192.168."].into_iter().find(|address| text.contains(address));
        ensure!(!text.is_empty() && address.is_none(), "{}: {address:?}\n{text}", file.display());
    }
    Ok(())
}
