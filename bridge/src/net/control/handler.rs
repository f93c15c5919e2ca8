//! One connection's control substreams: one that we opened, to speak; one of the peer's, to listen.

use std::{
    collections::VecDeque,
    io,
    mem::discriminant,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Stream,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use tokio::time::Instant;

use super::word::{CONTROL_PROTOCOL, Sentence};
use crate::{
    net::delimited,
    word::{FIRST_PING, Word},
};

/// Words that wait to be said on one connection. A peer that does not read them misses the oldest.
const WORDS_MAX: usize = 64;

/// Substreams that are opened to speak on, one after the other: a peer that closes them does not want to hear.
const SUBSTREAMS_MAX: u32 = 4;

/// Between two words that are heard. A peer that speaks faster waits: its words stay in the substream.
const PACE: Duration = Duration::from_millis(50);

type Speaking = BoxFuture<'static, io::Result<Stream>>;
type Listening = BoxFuture<'static, io::Result<(Stream, Sentence)>>;

/// How far our own substream is.
#[derive(Default)]
enum Voice {
    /// There is none.
    #[default]
    Silent,
    Opening,
    Ready(Stream),
    Speaking(Speaking),
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Handler {
    words: VecDeque<Word>,
    voice: Voice,
    opened: u32,
    listening: Option<Listening>,
    /// When the next word may be heard, on whichever substream it comes.
    next: Option<Instant>,
}

/// A later word of the same kind makes an earlier one that was not said pointless, unless it is about a peer or a ping.
fn is_latest(word: &Word) -> bool {
    match word {
        Word::Hold(_) | Word::Leaving { .. } | Word::Watch(_) | Word::Stun { .. } => true,
        Word::Beat(number) | Word::Echo(number) => *number < FIRST_PING,
        Word::Present(_) | Word::Absent { .. } | Word::PunchAgain | Word::PunchFailed(_) => false,
    }
}

impl Handler {
    fn queue(&mut self, word: Word) {
        if is_latest(&word) {
            let same = |other: &Word| discriminant(other) == discriminant(&word) && is_latest(other);
            self.words.retain(|waiting| !same(waiting));
        }
        if self.words.len() == WORDS_MAX {
            self.words.pop_front();
        }
        self.words.push_back(word);
    }

    fn poll_speak(&mut self, cx: &mut Context<'_>) -> Poll<SubstreamProtocol<ReadyUpgrade<Protocol>>> {
        loop {
            match std::mem::take(&mut self.voice) {
                Voice::Silent if self.words.is_empty() => return Poll::Pending,
                Voice::Silent if self.opened == SUBSTREAMS_MAX => {
                    self.words.clear();
                    return Poll::Pending;
                }
                Voice::Silent => {
                    self.opened += 1;
                    self.voice = Voice::Opening;
                    return Poll::Ready(SubstreamProtocol::new(ReadyUpgrade::new(CONTROL_PROTOCOL), ()));
                }
                Voice::Opening => {
                    self.voice = Voice::Opening;
                    return Poll::Pending;
                }
                Voice::Ready(stream) => match self.words.pop_front() {
                    Some(word) => self.voice = Voice::Speaking(say(stream, word).boxed()),
                    None => {
                        self.voice = Voice::Ready(stream);
                        return Poll::Pending;
                    }
                },
                Voice::Speaking(mut speaking) => match speaking.poll_unpin(cx) {
                    Poll::Ready(Ok(stream)) => self.voice = Voice::Ready(stream),
                    Poll::Ready(Err(_)) => self.voice = Voice::Silent,
                    Poll::Pending => {
                        self.voice = Voice::Speaking(speaking);
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<Word> {
        while let Some(listening) = &mut self.listening {
            match std::task::ready!(listening.poll_unpin(cx)) {
                Ok((stream, sentence)) => {
                    self.next = Some(Instant::now() + PACE);
                    self.listening = Some(listen(stream, self.next).boxed());
                    if let Some(word) = sentence.word() {
                        return Poll::Ready(word);
                    }
                }
                Err(_) => self.listening = None,
            }
        }
        Poll::Pending
    }
}

async fn say(mut stream: Stream, word: Word) -> io::Result<Stream> {
    delimited::write(&mut stream, &Sentence::from(&word)).await?;
    Ok(stream)
}

async fn listen(mut stream: Stream, next: Option<Instant>) -> io::Result<(Stream, Sentence)> {
    if let Some(next) = next {
        tokio::time::sleep_until(next).await;
    }
    let sentence = delimited::read(&mut stream).await?;
    Ok((stream, sentence))
}

type Protocol = libp2p::StreamProtocol;

impl ConnectionHandler for Handler {
    type FromBehaviour = Word;
    type ToBehaviour = Word;
    type InboundProtocol = ReadyUpgrade<Protocol>;
    type OutboundProtocol = ReadyUpgrade<Protocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<ReadyUpgrade<Protocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(CONTROL_PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, word: Word) {
        self.queue(word);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<Protocol>, (), Word>> {
        if let Poll::Ready(word) = self.poll_listen(cx) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(word));
        }
        self.poll_speak(cx).map(|protocol| ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, ReadyUpgrade<Protocol>, ReadyUpgrade<Protocol>>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.listening = Some(listen(stream, self.next).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.voice = Voice::Ready(stream);
            }
            ConnectionEvent::DialUpgradeError(_) => {
                // It does not speak the protocol, or hardly lives.
                self.voice = Voice::Silent;
                self.words.clear();
                self.opened = SUBSTREAMS_MAX;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn of_words_that_replace_each_other_the_last_one_waits_and_of_others_a_bounded_number() {
        let mut handler = Handler::default();
        for held in [true, false, true, false] {
            handler.queue(Word::Hold(held));
        }
        assert_eq!(handler.words, [Word::Hold(false)]);
        handler.words.clear();
        let beats = [1, FIRST_PING, FIRST_PING + 1, 2].map(Word::Beat);
        beats.iter().for_each(|beat| handler.queue(beat.clone()));
        assert_eq!(handler.words, &beats[1..], "each ping has somebody who waits for it");
        let peers: Vec<PeerId> = (0..=WORDS_MAX).map(|_| PeerId::random()).collect();
        for peer in &peers {
            handler.queue(Word::Present(*peer));
        }
        assert_eq!(handler.words.len(), WORDS_MAX);
        assert_eq!(handler.words.back(), Some(&Word::Present(*peers.last().unwrap())));
    }
}
