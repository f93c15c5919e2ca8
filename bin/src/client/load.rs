//! When `punchline client` sends its load, and how much, and what the session's path has to do with it.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use punchline_bridge::{Path, StreamFacts};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::{
    Unusable, cli,
    load::{LoadError, Report, Sender},
};

/// What a load may send through the relay beyond its share while it waits for something: a quarter of
/// what one of our relays carries for a circuit, which is somebody else's bandwidth.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// Between two pieces of such a load while the path is relayed, 32 KiB each: about 8 MiB/s, so that
/// the bytes above last for half a minute and all attempts to punch, and do not starve the punch itself.
const RELAYED_PAUSE: Duration = Duration::from_millis(4);

/// On a terminal, how far a load is: rare enough to be read in a log that is read later.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// What to send over the first session.
pub(super) struct Load {
    mebibytes: u64,
    plan: Plan,
    told_to_end: watch::Receiver<bool>,
}

/// When a load begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Begins at once, ends after its share.
    AtOnce,
    /// Begins when the path is direct, ends after its share.
    AfterDirect,
    /// Begins at once, ends when its share was sent on the direct path.
    UntilDirect,
    /// Begins at once, ends when told to.
    UntilTold,
}

impl Load {
    /// What the settings ask for. In a rehearsal it goes on until `told_to_end`.
    pub(super) fn of(
        settings: &cli::Client,
        told_to_end: watch::Receiver<bool>,
    ) -> Result<Option<Self>, Unusable> {
        let plan = match (settings.load_after_direct, settings.load_until_direct) {
            (true, true) => {
                let remedy = "cannot be combined with --load-until-direct; leave one of the two out";
                return Err(Unusable(format!("--load-after-direct {remedy}")));
            }
            _ if settings.rehearse => Plan::UntilTold,
            (false, false) => Plan::AtOnce,
            (true, false) => Plan::AfterDirect,
            (false, true) => Plan::UntilDirect,
        };
        Ok(settings.load_mib.map(|mebibytes| Self { mebibytes, plan, told_to_end }))
    }

    /// Sends it over `channel`; `facts` are those of the stream that carries it.
    pub(super) async fn send(self, channel: Channel, facts: &StreamFacts) -> Result<Report, LoadError> {
        let shown = io::stderr().is_terminal();
        if self.plan == Plan::AfterDirect {
            if shown && !facts.path().is_direct() {
                tracing::info!("the load begins when the path is direct");
            }
            // The watch ends with the stream, and then the load says so.
            let _ = facts.watch().wait_for(|now| now.path.is_direct()).await;
        }
        let mut load = Sender::begin(channel, rand::random());
        let mut said = Instant::now();
        loop {
            let sofar = SoFar {
                bytes: load.bytes(),
                sent_direct_bytes: facts.sent_direct_bytes(),
                path: facts.path(),
                told_to_end: *self.told_to_end.borrow(),
            };
            if shown && said.elapsed() >= SAID_EVERY {
                said = Instant::now();
                tracing::info!("{}", sofar.said(self.mebibytes));
            }
            match step(self.plan, self.mebibytes << 20, sofar) {
                Step::Send => load.send_piece().await?,
                Step::SendSlowly => {
                    load.send_piece().await?;
                    tokio::time::sleep(RELAYED_PAUSE).await;
                }
                Step::End => return load.finish().await,
            }
        }
    }
}

/// How a load stands.
#[derive(Clone, Copy, Debug)]
struct SoFar {
    bytes: u64,
    /// By its stream, which may have carried more.
    sent_direct_bytes: u64,
    path: Path,
    told_to_end: bool,
}

impl SoFar {
    fn said(&self, share_mebibytes: u64) -> String {
        format!("{} MiB of a load of {share_mebibytes} are sent, {}", self.bytes >> 20, self.path)
    }
}

/// What a load does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Send,
    SendSlowly,
    End,
}

fn step(plan: Plan, share: u64, sofar: SoFar) -> Step {
    let relayed_bytes = sofar.bytes.saturating_sub(sofar.sent_direct_bytes);
    let (done, waits) = match plan {
        Plan::AtOnce | Plan::AfterDirect => (sofar.bytes >= share, false),
        Plan::UntilDirect => (sofar.bytes >= share && sofar.sent_direct_bytes >= share, true),
        Plan::UntilTold => (sofar.told_to_end, true),
    };
    if done || (waits && relayed_bytes >= share + WAITING_BYTES_MAX) {
        Step::End
    } else if waits && !sofar.path.is_direct() {
        Step::SendSlowly
    } else {
        Step::Send
    }
}

#[cfg(test)]
mod tests {
    use punchline_bridge::PeerId;

    use super::*;

    const SHARE: u64 = 16 << 20;

    fn relayed(bytes: u64, sent_direct_bytes: u64) -> SoFar {
        let path = Path::Relayed { relay: PeerId::random() };
        SoFar { bytes, sent_direct_bytes, path, told_to_end: false }
    }

    fn direct(bytes: u64, sent_direct_bytes: u64) -> SoFar {
        SoFar { path: Path::Direct, ..relayed(bytes, sent_direct_bytes) }
    }

    #[test]
    fn how_far_a_load_is_is_one_line() {
        let said = "4 MiB of a load of 16 are sent, direct";
        assert_eq!(direct(5 * SHARE / 16 - 1, 0).said(SHARE >> 20), said);
    }

    #[test]
    fn a_load_ends_after_its_share_on_whichever_path() {
        for plan in [Plan::AtOnce, Plan::AfterDirect] {
            assert_eq!(step(plan, SHARE, relayed(SHARE - 1, 0)), Step::Send);
            assert_eq!(step(plan, SHARE, relayed(SHARE, 0)), Step::End);
        }
    }

    #[test]
    fn a_load_until_direct_goes_on_until_its_share_went_directly() {
        let plan = Plan::UntilDirect;
        assert_eq!(step(plan, SHARE, relayed(0, 0)), Step::SendSlowly);
        assert_eq!(step(plan, SHARE, relayed(SHARE, 0)), Step::SendSlowly);
        assert_eq!(step(plan, SHARE, direct(SHARE, 0)), Step::Send);
        assert_eq!(step(plan, SHARE, direct(2 * SHARE, SHARE - 1)), Step::Send);
        assert_eq!(step(plan, SHARE, direct(2 * SHARE, SHARE)), Step::End);
        assert_eq!(step(plan, SHARE, relayed(2 * SHARE, SHARE)), Step::End);
    }

    #[test]
    fn a_load_until_told_goes_on_until_told() {
        let plan = Plan::UntilTold;
        assert_eq!(step(plan, SHARE, direct(2 * SHARE, 2 * SHARE)), Step::Send);
        assert_eq!(step(plan, SHARE, relayed(2 * SHARE, 2 * SHARE)), Step::SendSlowly);
        let told = SoFar { told_to_end: true, ..relayed(0, 0) };
        assert_eq!(step(plan, SHARE, told), Step::End);
    }

    #[test]
    fn a_relay_is_not_flooded_for_ever() {
        let most = SHARE + WAITING_BYTES_MAX;
        for plan in [Plan::UntilDirect, Plan::UntilTold] {
            assert_eq!(step(plan, SHARE, relayed(most - 1, 0)), Step::SendSlowly);
            assert_eq!(step(plan, SHARE, relayed(most, 0)), Step::End);
        }
    }
}
