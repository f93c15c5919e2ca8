//! `design/kaspad.md` and `design/kaspad-network.md`, followed word by word in a lab with two NATs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::guide::{Guide, Reader};
use punchline_tests::kaspad;

use crate::world::two_nats;

const GUIDE: &str = include_str!("../../../design/kaspad.md");
const OF_A_NETWORK: &str = include_str!("../../../design/kaspad-network.md");

pub(crate) async fn is_followed_word_by_word() -> Result<()> {
    let reader = follow(GUIDE, 8).await?;
    // The first node sees the second one at a loopback address of its own, as the guide says.
    let seen = reader.saw("kaspad", "P2P Connected to incoming peer <far> (");
    let far = &seen.context("the first node has no peer")?["far"];
    ensure!(far.starts_with("127.") && !far.starts_with("127.0.0.1:"), "it is seen at {far}");
    Ok(())
}

/// Of nodes that find each other.
pub(crate) async fn of_a_network_is_followed_word_by_word() -> Result<()> {
    follow(OF_A_NETWORK, 6).await.map(drop)
}

async fn follow(text: &str, blocks: usize) -> Result<Reader> {
    let guide: Guide = text.parse()?;
    ensure!(guide.blocks.len() == blocks, "{} blocks", guide.blocks.len());
    let mut reader = Reader::new(two_nats()?, &["first", "second"])?;
    reader.has("kaspad", &kaspad::binary()?)?;
    for machine in ["first", "second"] {
        let directory = reader.home(machine).join("kaspad");
        reader.knows(machine, "kaspad's flags", format!("--appdir={} {FLAGS}", directory.display()));
    }
    let began = Instant::now();
    reader.follows(&guide).await?;
    ensure!(began.elapsed() < PROMISED, "it took {:?}", began.elapsed());
    Ok(reader)
}

/// On a network without others, and little of the machine that is shared with other tests.
const FLAGS: &str =
    "--simnet --nodnsseed --disable-upnp --nologfiles --yes --async-threads=2 --ram-scale=0.3";

/// What the guide says that it takes, of which typing takes the most.
const PROMISED: Duration = Duration::from_secs(300);
