//! One connection's part. On one that we dialled, the other end may be a server and is asked; on one that we accepted,
//! a server may say a nonce of ours.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncWriteExt as _, FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered,
};
use libp2p::{
    Multiaddr, Stream, StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
            ProtocolsChange,
        },
    },
};
use tokio::time::timeout;

use super::wire::{
    DATA_BYTES, DATA_CHUNK, DIAL_BACK, DIAL_REQUEST, DialBack, DialBackResponse, DialResponse,
    DialStatus, MESSAGE_BYTES_MAX, Status, Words,
};
use crate::{
    engine::input::Outcome,
    net::{delimited, speak::Speak},
    path::Transport,
};

/// For a test: the substream, the data, the server's dial of up to 10 s, and the answer.
const TEST_DEADLINE: Duration = Duration::from_secs(25);

/// For a server that dialled to say its nonce and take the answer.
const HEAR_DEADLINE: Duration = Duration::from_secs(5);

/// Nonces that one connection may say at once; a server says one.
const HEARING_MAX: usize = 2;

/// What this end is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It dialled: the other end may test addresses.
    Dialled,
    /// It was dialled: the other end may say a nonce.
    Accepted { from: IpAddr, over: Transport },
    /// The connection is a circuit.
    Neither,
}

/// Dial this address.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) nonce: u64,
    pub(crate) address: Multiaddr,
}

/// Behaviour to handler.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Ask),
    /// The nonce that was said on this substream is ours.
    Answer(Stream),
}

/// Handler to behaviour.
#[derive(Debug)]
pub(crate) enum Report {
    Offered,
    Ended {
        nonce: u64,
        outcome: Outcome,
    },
    /// Answered only when the behaviour has it: what the server says after that comes by another connection.
    Heard {
        nonce: u64,
        side: Side,
        io: Stream,
    },
}

/// See the module's text.
pub(crate) struct Handler {
    side: Side,
    asks: VecDeque<Ask>,
    reports: VecDeque<Report>,
    // Bounded by the tests of the engine and by `HEARING_MAX`.
    talks: FuturesUnordered<BoxFuture<'static, Option<Report>>>,
}

impl Handler {
    pub(super) fn new(side: Side) -> Self {
        Self { side, asks: VecDeque::new(), reports: VecDeque::new(), talks: FuturesUnordered::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Speak;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<Speak> {
        let accepted = matches!(self.side, Side::Accepted { .. });
        SubstreamProtocol::new(Speak(accepted.then_some(DIAL_BACK)), ())
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command {
            Command::Ask(ask) => self.asks.push_back(ask),
            Command::Answer(io) => self.talks.push(answer(io).boxed()),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Ask, Report>> {
        if let Some(ask) = self.asks.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(DIAL_REQUEST), ask),
            });
        }
        while let Poll::Ready(Some(report)) = self.talks.poll_next_unpin(cx) {
            self.reports.extend(report);
        }
        match self.reports.pop_front() {
            Some(report) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report)),
            None => Poll::Pending,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Speak, ReadyUpgrade<StreamProtocol>, (), Ask>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: io, .. })
                if self.talks.len() < HEARING_MAX =>
            {
                self.talks.push(hear(io, self.side).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: io,
                info: ask,
            }) => self.talks.push(test(io, ask).boxed()),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: ask, .. }) => {
                let outcome = Outcome::Unanswered;
                self.reports.push_back(Report::Ended { nonce: ask.nonce, outcome });
            }
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(added))
                if self.side == Side::Dialled =>
            {
                let offered = added.filter(|protocol| **protocol == DIAL_REQUEST);
                self.reports.extend(offered.map(|_| Report::Offered));
            }
            _ => {}
        }
    }
}

async fn test(mut io: Stream, ask: Ask) -> Option<Report> {
    io.ignore_for_keep_alive();
    let answer = timeout(TEST_DEADLINE, ask_for(&mut io, &ask)).await;
    let outcome = match answer {
        Ok(Ok(response)) => outcome(response),
        _ => Outcome::Unanswered,
    };
    Some(Report::Ended { nonce: ask.nonce, outcome })
}

/// A server that says it reached us is believed if it said the nonce; [`super::Behaviour`] knows.
fn outcome(DialResponse { status, dial_status, .. }: DialResponse) -> Outcome {
    let failed = [DialStatus::DialError as i32, DialStatus::DialBackError as i32];
    match status == Status::Ok as i32 && failed.contains(&dial_status) {
        true => Outcome::Unreached,
        false => Outcome::Unanswered,
    }
}

async fn ask_for(io: &mut Stream, Ask { nonce, address }: &Ask) -> io::Result<DialResponse> {
    delimited::write(io, &Words::request(address, *nonce)).await?;
    let mut words: Words = delimited::read_up_to(io, MESSAGE_BYTES_MAX).await?;
    if let Some(wanted) = words.data_request {
        if !DATA_BYTES.contains(&wanted.bytes) || wanted.addr_index != 0 {
            return Err(broken());
        }
        let mut left = wanted.bytes as usize;
        while left > 0 {
            let chunk = left.min(DATA_CHUNK);
            delimited::write(io, &Words::data(chunk)).await?;
            left -= chunk;
        }
        words = delimited::read_up_to(io, MESSAGE_BYTES_MAX).await?;
    }
    let _ = io.close().await;
    words.response.ok_or_else(broken)
}

async fn hear(mut io: Stream, side: Side) -> Option<Report> {
    io.ignore_for_keep_alive();
    let said = timeout(HEAR_DEADLINE, delimited::read(&mut io)).await;
    let DialBack { nonce } = said.ok()?.ok()?;
    Some(Report::Heard { nonce, side, io })
}

/// A server that does not take the answer says that it did not reach us; we know better.
async fn answer(mut io: Stream) -> Option<Report> {
    let answer = async {
        delimited::write(&mut io, &DialBackResponse { status: 0 }).await?;
        io.close().await
    };
    let _ = timeout(HEAR_DEADLINE, answer).await;
    None
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server broke the protocol")
}
