//! The task of a session: one loop that reads, answers, and keeps the peer honest.
//!
//! Messages are taken strictly in order, and answers never wait, so a peer is read as fast as
//! its messages can be processed and no faster: HTTP/2's flow control does the rest.

use std::{sync::Arc, time::Instant};

use tokio::{sync::mpsc, time};
use tracing::debug;

use crate::{
    address_book::AddressBook,
    admission::LivePeer,
    flows::{ADDRESSES_GIVEN_MAX, AddressQuestion, AnswerError, PingStep, Pings, at_most},
    link::{Link, LinkEnd},
    reject::RejectReason,
    session::{EVENTS_MAX, EndCause, SessionEvent, Shared},
    wire::{
        ConversionError, KaspadMessage, Payload, PayloadKind, ProtocolError, TRANSACTION_ID_BYTES,
        TRANSACTION_IDS_MAX,
        proto::{
            AddressesMessage, InvTransactionsMessage, PingMessage, PongMessage, RequestAddressesMessage,
        },
    },
};

/// Everything one session owns.
#[derive(Debug)]
pub(crate) struct Conversation {
    link: Link,
    shared: Arc<Shared>,
    events: mpsc::Sender<SessionEvent>,
    book: Arc<AddressBook>,
    place: LivePeer,
    pings: Pings,
    question: AddressQuestion,
}

impl From<AnswerError> for EndCause {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Reject(reason) => Self::Refused(reason),
            AnswerError::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl Conversation {
    /// A conversation that starts now; [`Self::run`] carries it on.
    pub(crate) fn new(
        link: Link,
        shared: Arc<Shared>,
        events: mpsc::Sender<SessionEvent>,
        book: Arc<AddressBook>,
        place: LivePeer,
    ) -> Self {
        let now = now();
        Self {
            link,
            shared,
            events,
            book,
            place,
            pings: Pings::new(now),
            question: AddressQuestion::asked(now),
        }
    }

    /// Runs until the end, tells it to everybody, and lets the last words out.
    pub(crate) async fn run(mut self) {
        let cause = self.converse().await;
        debug!(kaspa_id = %self.shared.facts.kaspa_id, %cause, "session ended");
        if let Some(reason) = cause.reject_reason() {
            // With the lane full the peer is not reading, and would not read this either.
            let _ = self.link.lanes().answer(reason.to_payload());
        }
        drop(self.place);
        self.shared.router().end();
        self.shared.ended.send_replace(Some(cause));
        drop(self.events);
        self.link.linger().await;
    }

    async fn converse(&mut self) -> EndCause {
        let question = Payload::RequestAddresses(RequestAddressesMessage::default());
        if let Err(error) = self.link.lanes().answer(question) {
            return error.into();
        }
        loop {
            let due = self.poll_timeout();
            let step = tokio::select! {
                biased;
                () = self.shared.close.cancelled() => Err(EndCause::LocalClose),
                () = time::sleep_until(due.into()) => self.handle_timeout(now()),
                received = self.link.receive() => self.handle(received, now()),
            };
            if let Err(cause) = step {
                return cause;
            }
        }
    }

    fn poll_timeout(&self) -> Instant {
        let ping = self.pings.poll_timeout();
        self.question.poll_timeout().map_or(ping, |answer| answer.min(ping))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), EndCause> {
        self.question.handle_timeout(now).map_err(EndCause::Refused)?;
        match self.pings.handle_timeout(now, rand::random()) {
            PingStep::Nothing => Ok(()),
            PingStep::Send { nonce } => self.answer(Payload::Ping(PingMessage { nonce })),
            PingStep::TimedOut => Err(EndCause::PingTimeout),
        }
    }

    fn handle(
        &mut self,
        received: Result<KaspadMessage, LinkEnd>,
        now: Instant,
    ) -> Result<(), EndCause> {
        let message = received?;
        let kind = message.kind().ok_or(ProtocolError::EmptyPayload)?;
        let routed = self.shared.router().route(kind, message)?;
        match routed {
            None => Ok(()),
            Some(message) => self.handle_unrouted(kind, message, now),
        }
    }

    /// What no route took: the session's own flows, then the owner.
    fn handle_unrouted(
        &mut self,
        kind: PayloadKind,
        message: KaspadMessage,
        now: Instant,
    ) -> Result<(), EndCause> {
        if kind.is_handshake() {
            return Err(ProtocolError::NoRoute { kind }.into());
        }
        match message.payload {
            Some(Payload::Reject(reject)) => {
                Err(EndCause::PeerRejected(RejectReason::from_text(reject.reason)))
            }
            Some(Payload::Ping(PingMessage { nonce })) => {
                self.answer(Payload::Pong(PongMessage { nonce }))
            }
            Some(Payload::Pong(PongMessage { nonce })) => self.handle_pong(nonce, now),
            Some(Payload::RequestAddresses(_)) => self.answer(self.known_addresses()),
            Some(Payload::Addresses(addresses)) => self.handle_addresses(addresses),
            Some(Payload::InvTransactions(inv)) => self.handle_announcement(inv),
            payload => {
                self.emit(kind, SessionEvent::Message(Box::new(KaspadMessage { payload, ..message })))
            }
        }
    }

    fn handle_pong(&mut self, nonce: u64, now: Instant) -> Result<(), EndCause> {
        if self.shared.deliver_pong(nonce) {
            return Ok(());
        }
        let round_trip = self.pings.handle_pong(nonce, now).map_err(EndCause::Refused)?;
        self.emit(PayloadKind::Pong, SessionEvent::RoundTrip(round_trip))
    }

    fn known_addresses(&self) -> Payload {
        let addresses = self.book.sample(ADDRESSES_GIVEN_MAX);
        Payload::Addresses(AddressesMessage {
            address_list: addresses.into_iter().map(Into::into).collect(),
        })
    }

    fn handle_addresses(&mut self, message: AddressesMessage) -> Result<(), EndCause> {
        let addresses = self.question.handle_addresses(message)?;
        addresses.iter().for_each(|&address| self.book.insert(address));
        self.emit(PayloadKind::Addresses, SessionEvent::Addresses(addresses))
    }

    fn handle_announcement(&self, inv: InvTransactionsMessage) -> Result<(), EndCause> {
        let kind = PayloadKind::InvTransactions;
        at_most(kind, inv.ids.len(), TRANSACTION_IDS_MAX).map_err(EndCause::Refused)?;
        if let Some(id) = inv.ids.iter().find(|id| id.bytes.len() != TRANSACTION_ID_BYTES) {
            let illegal = ConversionError::IllegalHashLength(id.bytes.len());
            return Err(EndCause::Refused(illegal.into()));
        }
        let message = KaspadMessage::new(Payload::InvTransactions(inv));
        self.emit(kind, SessionEvent::Message(Box::new(message)))
    }

    fn answer(&self, payload: Payload) -> Result<(), EndCause> {
        Ok(self.link.lanes().answer(payload)?)
    }

    /// Tells the owner. A full queue is handled as a full route is; a gone owner closes anyway.
    fn emit(&self, kind: PayloadKind, event: SessionEvent) -> Result<(), EndCause> {
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Full(_)) if !kind.is_announcement() => {
                let limit = EVENTS_MAX;
                Err(ProtocolError::IncomingRouteFull { kind, limit }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Tokio's clock, so that tests may stop it.
fn now() -> Instant {
    time::Instant::now().into_std()
}
