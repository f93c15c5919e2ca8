//! The runbook and the README, in the lab: so that they say what the programs do.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::guide::{Guide, Reader};
use punchline_tests::lab::{Lab, LabSpec, Nat};
use punchline_tests::rehearsal::{Origin, RUNBOOK, Rehearsal, Topology, Verdict, rehearse};
use punchline_tests::trial::lab_trial;

/// The other topologies are rehearsed by people: `lab rehearse`.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab_trial("the_runbook_makes_two_nats_direct_and_its_log_names_no_address", two_nats),
        lab_trial("the_readme_is_followed_word_by_word", readme),
        lab_trial("the_guide_to_namespaces_is_followed_word_by_word", namespaces),
    ]
}

/// What it says of its use, from the relay to a page that the other side reads.
async fn readme() -> Result<()> {
    let text = include_str!("../../../README.md");
    let (_, text) = text.split_once("\n## Use it\n").context("a section on its use")?;
    let (text, _) = text.split_once("\n## ").context("a section after it")?;
    let guide: Guide = text.parse()?;
    ensure!(guide.blocks.len() == 5, "{} blocks", guide.blocks.len());
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving; 2]))?;
    Reader::new(lab, &["home", "away"])?.follows(&guide).await
}

/// What the operator's guide says of peers that find each other: two members, and one that dials them.
async fn namespaces() -> Result<()> {
    let text = include_str!("../../../design/operate.md");
    let (_, text) = text.split_once("\n## Peers that find each other\n").context("a section on it")?;
    let (text, _) = text.split_once("\n## ").context("a section after it")?;
    let guide: Guide = text.parse()?;
    ensure!(guide.blocks.len() == 6, "{} blocks", guide.blocks.len());
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving; 3]))?;
    Reader::new(lab, &["one", "two", "away"])?.follows(&guide).await
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
