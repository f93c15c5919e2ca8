//! Words as they travel on a control substream.

use std::time::Duration;

use libp2p::PeerId;
use prost::Message;

use crate::{
    error::PunchVerdict,
    word::{WATCHED_MAX, Word},
};

/// The protocol: its substreams go one way, from whoever opened one.
pub(crate) const CONTROL_PROTOCOL: libp2p::StreamProtocol =
    libp2p::StreamProtocol::new("/punchline/control/1");

/// A word as it travels. Exactly one field is set; a message with none is a word of a later version.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sentence {
    #[prost(bool, optional, tag = "1")]
    hold: Option<bool>,
    #[prost(uint32, optional, tag = "2")]
    leaving_seconds: Option<u32>,
    #[prost(message, optional, tag = "3")]
    watch: Option<Peers>,
    #[prost(bytes = "vec", optional, tag = "4")]
    present: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    absent: Option<Absence>,
    #[prost(bool, optional, tag = "6")]
    punch_again: Option<bool>,
    #[prost(uint32, optional, tag = "7")]
    punch_failed: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    stun_port: Option<u32>,
    #[prost(uint64, optional, tag = "9")]
    beat: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    echo: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Peers {
    #[prost(bytes = "vec", repeated, tag = "1")]
    ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Absence {
    #[prost(bytes = "vec", required, tag = "1")]
    id: Vec<u8>,
    #[prost(bool, required, tag = "2")]
    closed: bool,
}

impl From<&Word> for Sentence {
    fn from(word: &Word) -> Self {
        let mut sentence = Self::default();
        match word {
            Word::Hold(held) => sentence.hold = Some(*held),
            Word::Leaving { within } => {
                sentence.leaving_seconds = Some(u32::try_from(within.as_secs()).unwrap_or(u32::MAX));
            }
            Word::Watch(peers) => {
                let ids = peers.iter().take(WATCHED_MAX).map(|peer| peer.to_bytes()).collect();
                sentence.watch = Some(Peers { ids });
            }
            Word::Beat(number) => sentence.beat = Some(*number),
            Word::Echo(number) => sentence.echo = Some(*number),
            Word::Present(peer) => sentence.present = Some(peer.to_bytes()),
            Word::Absent { peer, closed } => {
                sentence.absent = Some(Absence { id: peer.to_bytes(), closed: *closed });
            }
            Word::PunchAgain => sentence.punch_again = Some(true),
            Word::PunchFailed(verdict) => sentence.punch_failed = Some(number(*verdict)),
            Word::Stun { port } => sentence.stun_port = Some((*port).into()),
        }
        sentence
    }
}

impl Sentence {
    /// The word, if it is one that we know and it makes sense.
    pub(super) fn word(self) -> Option<Word> {
        if let Some(held) = self.hold {
            return Some(Word::Hold(held));
        }
        if let Some(seconds) = self.leaving_seconds {
            return Some(Word::Leaving { within: Duration::from_secs(seconds.into()) });
        }
        if let Some(Peers { ids }) = self.watch {
            let peers = ids.iter().take(WATCHED_MAX).filter_map(|id| PeerId::from_bytes(id).ok());
            return Some(Word::Watch(peers.collect()));
        }
        if let Some(id) = self.present {
            return Some(Word::Present(PeerId::from_bytes(&id).ok()?));
        }
        if self.punch_again.is_some() {
            return Some(Word::PunchAgain);
        }
        if let Some(number) = self.punch_failed {
            return Some(Word::PunchFailed(verdict(number)));
        }
        if let Some(port) = self.stun_port {
            return Some(Word::Stun { port: u16::try_from(port).ok()? });
        }
        if let Some(number) = self.beat {
            return Some(Word::Beat(number));
        }
        if let Some(number) = self.echo {
            return Some(Word::Echo(number));
        }
        let Absence { id, closed } = self.absent?;
        Some(Word::Absent { peer: PeerId::from_bytes(&id).ok()?, closed })
    }
}

fn number(verdict: PunchVerdict) -> u32 {
    match verdict {
        PunchVerdict::Other => 0,
        PunchVerdict::NoCandidate => 1,
        PunchVerdict::AllRefused => 2,
        PunchVerdict::PunchFailed => 3,
        PunchVerdict::Limit => 4,
        PunchVerdict::PortsChange => 5,
    }
}

/// Verdicts of later versions are [`PunchVerdict::Other`].
fn verdict(number: u32) -> PunchVerdict {
    match number {
        1 => PunchVerdict::NoCandidate,
        2 => PunchVerdict::AllRefused,
        3 => PunchVerdict::PunchFailed,
        4 => PunchVerdict::Limit,
        5 => PunchVerdict::PortsChange,
        _ => PunchVerdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::delimited::MESSAGE_BYTES_MAX;

    #[test]
    fn every_word_is_read_back() {
        let peer = PeerId::random();
        for word in [
            Word::Hold(true),
            Word::Hold(false),
            Word::Leaving { within: Duration::from_secs(20) },
            Word::Beat(7),
            Word::Echo(u64::MAX),
            Word::Watch(vec![peer, PeerId::random()]),
            Word::Watch(Vec::new()),
            Word::Present(peer),
            Word::Absent { peer, closed: true },
            Word::Absent { peer, closed: false },
            Word::PunchAgain,
            Word::PunchFailed(PunchVerdict::Other),
            Word::PunchFailed(PunchVerdict::NoCandidate),
            Word::PunchFailed(PunchVerdict::AllRefused),
            Word::PunchFailed(PunchVerdict::PunchFailed),
            Word::PunchFailed(PunchVerdict::Limit),
            Word::PunchFailed(PunchVerdict::PortsChange),
            Word::Stun { port: 3478 },
        ] {
            assert_eq!(Sentence::from(&word).word(), Some(word));
        }
    }

    #[test]
    fn the_longest_word_fits_and_longer_ones_are_cut() {
        let peers: Vec<PeerId> = (0..WATCHED_MAX + 1).map(|_| PeerId::random()).collect();
        let sentence = Sentence::from(&Word::Watch(peers.clone()));
        assert!(sentence.encoded_len() <= MESSAGE_BYTES_MAX);
        assert_eq!(sentence.word(), Some(Word::Watch(peers[..WATCHED_MAX].to_vec())));
    }

    #[test]
    fn a_word_of_a_later_version_and_one_without_sense_are_skipped() {
        assert_eq!(Sentence::default().word(), None);
        let nobody = Sentence { present: Some(vec![1, 2, 3]), ..Sentence::default() };
        assert_eq!(nobody.word(), None);
        let nowhere = Sentence { stun_port: Some(65_536), ..Sentence::default() };
        assert_eq!(nowhere.word(), None);
    }
}
