//! The load that `punchline client` sends, and what the session's path has to do with it.

use std::time::Duration;

use punchline_bridge::{Path, StreamFacts};
use punchline_protocol::{LoadError, LoadReport, LoadSender, SessionHandle};

use crate::{Unusable, cli};

/// What a load that waits for the direct path may send beyond its share: a quarter of what one of our
/// relays carries for a circuit, which is somebody else's bandwidth.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// Between two messages of such a load while the path is relayed, 32 KiB each: about 8 MiB/s, so that
/// the bytes above last for half a minute and all attempts to punch, and do not starve the punch itself.
const RELAYED_PAUSE: Duration = Duration::from_millis(4);

/// What to send over the first session.
pub(super) struct Load {
    mebibytes: u64,
    start: Start,
}

/// When a load begins, and what counts of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At once; all of it.
    AtOnce,
    /// When the path is direct; all of it.
    AfterDirect,
    /// At once; what is sent on the direct path.
    UntilDirect,
}

impl Load {
    /// What the settings ask for.
    pub(super) fn of(settings: &cli::Client) -> Result<Option<Self>, Unusable> {
        let start = match (settings.load_after_direct, settings.load_until_direct) {
            (false, false) => Start::AtOnce,
            (true, false) => Start::AfterDirect,
            (false, true) => Start::UntilDirect,
            (true, true) => {
                let remedy = "cannot be combined with --load-until-direct; leave one of the two out";
                return Err(Unusable(format!("--load-after-direct {remedy}")));
            }
        };
        Ok(settings.load_mib.map(|mebibytes| Self { mebibytes, start }))
    }

    /// Sends it over `session`; `facts` are those of the stream that carries the session.
    pub(super) async fn send(
        self,
        session: &SessionHandle,
        facts: &StreamFacts,
    ) -> Result<LoadReport, LoadError> {
        if self.start == Start::AfterDirect {
            // The watch ends with the stream, and then the load says so.
            let _ = facts.watch().wait_for(|now| now.path.is_direct()).await;
        }
        let mut load = LoadSender::new(session, rand::random());
        if self.start == Start::UntilDirect {
            let share = self.mebibytes << 20;
            loop {
                match step(share, load.bytes(), facts.sent_direct_bytes(), facts.path()) {
                    Step::Send => load.send_message().await?,
                    Step::SendSlowly => {
                        load.send_message().await?;
                        tokio::time::sleep(RELAYED_PAUSE).await;
                    }
                    Step::End => break,
                }
            }
        } else {
            load.send_mebibytes(self.mebibytes).await?;
        }
        load.finish().await
    }
}

/// What a load does next that goes on until its share went directly.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Send,
    SendSlowly,
    End,
}

fn step(share: u64, load_bytes: u64, direct_bytes: u64, path: Path) -> Step {
    let done = load_bytes >= share && direct_bytes >= share;
    if done || load_bytes >= share + WAITING_BYTES_MAX {
        Step::End
    } else if path.is_direct() {
        Step::Send
    } else {
        Step::SendSlowly
    }
}

#[cfg(test)]
mod tests {
    use punchline_bridge::PeerId;

    use super::*;

    const SHARE: u64 = 16 << 20;

    fn relayed() -> Path {
        Path::Relayed { relay: PeerId::random() }
    }

    #[test]
    fn a_load_until_direct_goes_on_until_its_share_went_directly() {
        assert_eq!(step(SHARE, 0, 0, relayed()), Step::SendSlowly);
        assert_eq!(step(SHARE, SHARE, 0, relayed()), Step::SendSlowly);
        assert_eq!(step(SHARE, SHARE, 0, Path::Direct), Step::Send);
        assert_eq!(step(SHARE, 2 * SHARE, SHARE - 1, Path::Direct), Step::Send);
        assert_eq!(step(SHARE, 2 * SHARE, SHARE, Path::Direct), Step::End);
        assert_eq!(step(SHARE, 2 * SHARE, SHARE, relayed()), Step::End);
    }

    #[test]
    fn a_relay_is_not_flooded_for_ever() {
        let most = SHARE + WAITING_BYTES_MAX;
        assert_eq!(step(SHARE, most - 1, 0, relayed()), Step::SendSlowly);
        assert_eq!(step(SHARE, most, 0, relayed()), Step::End);
    }
}
