//! One connection's part: puts our requests to the relay at its other end, and takes the circuits it brings.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
    handler::{
        ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        ListenUpgradeError,
    },
};
use tokio::sync::Semaphore;

use super::{
    HOP_DEADLINE, OFFERS_MAX, STOP_DEADLINE,
    exchange::{Answer, Ask, Hear, Offer},
};

/// Behaviour to handler.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Ask),
    /// The reservation there is over: take no more circuits.
    Release,
}

/// Handler to behaviour.
#[derive(Debug)]
pub(crate) enum Report {
    Answered(Answer),
    Offered(Offer),
}

/// See the module's text. What it queues is bounded by what the behaviour asks and by [`OFFERS_MAX`].
pub(crate) struct Handler {
    direct: bool,
    reserved: bool,
    places: Arc<Semaphore>,
    asks: VecDeque<Ask>,
    reports: VecDeque<Report>,
}

impl Handler {
    /// `direct`: the connection is no circuit itself.
    pub(super) fn new(direct: bool) -> Self {
        Self {
            direct,
            reserved: false,
            places: Arc::new(Semaphore::new(OFFERS_MAX)),
            asks: VecDeque::new(),
            reports: VecDeque::new(),
        }
    }

    fn answered(&mut self, answer: Answer) {
        if let Answer::Reserved { outcome: Ok(_), .. } = answer {
            self.reserved = true;
        }
        self.reports.push_back(Report::Answered(answer));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Hear;
    type OutboundProtocol = Ask;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<Hear> {
        let Self { direct: open, reserved, .. } = *self;
        let hear = Hear { open, reserved, places: self.places.clone() };
        SubstreamProtocol::new(hear, ()).with_timeout(STOP_DEADLINE)
    }

    /// Nobody reaches us through a relay whose link was closed for being idle.
    fn connection_keep_alive(&self) -> bool {
        self.reserved
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command {
            Command::Ask(ask) => self.asks.push_back(ask),
            Command::Release => self.reserved = false,
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Ask, Ask, Report>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        match self.asks.pop_front() {
            Some(ask) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                // The deadline covers the substream, the request and the answer.
                protocol: SubstreamProtocol::new(ask, ask).with_timeout(HOP_DEADLINE),
            }),
            // Woken by the connection itself, which calls the methods above before it polls again.
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Hear, Ask, (), Ask>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: offer, ..
            }) => self.reports.push_back(Report::Offered(offer)),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: answer,
                ..
            }) => self.answered(answer),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: ask, error }) => {
                self.answered(ask.failed(error));
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { error, .. }) => {
                tracing::debug!(%error, "a circuit was not taken");
            }
            _ => {}
        }
    }
}
