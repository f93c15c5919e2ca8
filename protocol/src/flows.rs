//! What every node does in a session, decided: keepalive and the exchange of addresses.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    reject::RejectReason,
    wire::{PayloadKind, ProtocolError, proto::AddressesMessage},
};

/// Time from Ready, and from a Pong, to our next Ping (upstream's number).
pub const PING_INTERVAL: Duration = Duration::from_secs(120);

/// How long we wait for a Pong or for addresses (upstream's `DEFAULT_TIMEOUT`). Nothing in
/// HTTP/2 notices a silent path, so this bounds how long a dead session lives.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Most addresses accepted in one message (upstream's number).
pub const ADDRESSES_ACCEPTED_MAX: usize = 2500;

/// Most addresses given in one message (upstream's number).
pub const ADDRESSES_GIVEN_MAX: usize = 1000;

/// Our keepalive: one Ping at a time.
#[derive(Debug)]
pub(crate) enum Pings {
    /// Nothing is outstanding.
    Idle { next_at: Instant },
    /// A Pong with `nonce` is awaited.
    Awaiting { nonce: u64, sent_at: Instant },
}

/// What the keepalive wants when its time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PingStep {
    Nothing,
    Send { nonce: u64 },
    TimedOut,
}

impl Pings {
    pub(crate) fn new(now: Instant) -> Self {
        Self::Idle { next_at: now + PING_INTERVAL }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        match self {
            Self::Idle { next_at } => *next_at,
            Self::Awaiting { sent_at, .. } => *sent_at + ANSWER_TIMEOUT,
        }
    }

    /// `nonce` is used if it is time for a Ping.
    pub(crate) fn handle_timeout(&mut self, now: Instant, nonce: u64) -> PingStep {
        if now < self.poll_timeout() {
            return PingStep::Nothing;
        }
        match self {
            Self::Idle { .. } => {
                *self = Self::Awaiting { nonce, sent_at: now };
                PingStep::Send { nonce }
            }
            Self::Awaiting { .. } => PingStep::TimedOut,
        }
    }

    /// The round trip time, if the Pong answers our Ping.
    pub(crate) fn handle_pong(&mut self, nonce: u64, now: Instant) -> Result<Duration, RejectReason> {
        match *self {
            Self::Awaiting { nonce: expected, sent_at } if expected == nonce => {
                *self = Self::new(now);
                Ok(now - sent_at)
            }
            _ => Err(RejectReason::NonceMismatch),
        }
    }
}

/// Our one question for addresses: asked right after Ready, answered once.
#[derive(Debug)]
pub(crate) enum AddressQuestion {
    /// The answer is due.
    Asked { until: Instant },
    /// It came; another one has no route.
    Answered,
}

impl AddressQuestion {
    pub(crate) fn asked(now: Instant) -> Self {
        Self::Asked { until: now + ANSWER_TIMEOUT }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Asked { until } => Some(*until),
            Self::Answered => None,
        }
    }

    pub(crate) fn handle_timeout(&self, now: Instant) -> Result<(), RejectReason> {
        match self {
            Self::Asked { until } if *until <= now => Err(RejectReason::AnswerTimeout {
                awaited: PayloadKind::Addresses,
                after: ANSWER_TIMEOUT,
            }),
            _ => Ok(()),
        }
    }

    /// The addresses in the answer.
    pub(crate) fn handle_addresses(
        &mut self,
        message: AddressesMessage,
    ) -> Result<Vec<SocketAddr>, AnswerError> {
        if matches!(self, Self::Answered) {
            let kind = PayloadKind::Addresses;
            return Err(ProtocolError::NoRoute { kind }.into());
        }
        *self = Self::Answered;
        at_most(PayloadKind::Addresses, message.address_list.len(), ADDRESSES_ACCEPTED_MAX)?;
        let parsed = message.address_list.into_iter().map(SocketAddr::try_from);
        let addresses: Result<Vec<_>, _> = parsed.collect();
        Ok(addresses.map_err(RejectReason::from)?)
    }
}

/// What is wrong with an answer: worth a Reject, or the end without one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(transparent)]
    Reject(#[from] RejectReason),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Refuses a message with more than `limit` entries.
pub(crate) fn at_most(kind: PayloadKind, count: usize, limit: usize) -> Result<(), RejectReason> {
    if count <= limit {
        return Ok(());
    }
    Err(RejectReason::TooMany { kind, count, limit })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::wire::{ConversionError, proto::NetAddress};

    #[test]
    fn the_first_ping_is_due_after_120_s_and_the_next_120_s_after_its_pong() {
        let start = Instant::now();
        let mut pings = Pings::new(start);
        let due = start + PING_INTERVAL;
        let early = due - Duration::from_millis(1);
        assert_eq!(pings.handle_timeout(early, 7), PingStep::Nothing);
        assert_eq!(pings.handle_timeout(due, 7), PingStep::Send { nonce: 7 });
        let answered = due + Duration::from_secs(3);
        assert_eq!(pings.handle_pong(7, answered), Ok(Duration::from_secs(3)));
        assert_eq!(pings.poll_timeout(), answered + PING_INTERVAL);
    }

    #[test]
    fn a_pong_that_does_not_come_within_120_s_times_out() {
        let start = Instant::now();
        let mut pings = Pings::new(start);
        pings.handle_timeout(start + PING_INTERVAL, 7);
        let due = start + PING_INTERVAL + ANSWER_TIMEOUT;
        assert_eq!(pings.handle_timeout(due - Duration::from_millis(1), 8), PingStep::Nothing);
        assert_eq!(pings.handle_timeout(due, 8), PingStep::TimedOut);
    }

    #[test]
    fn a_pong_with_another_nonce_or_without_a_ping_is_refused() {
        let start = Instant::now();
        let mut pings = Pings::new(start);
        assert_eq!(pings.handle_pong(0, start), Err(RejectReason::NonceMismatch));
        pings.handle_timeout(start + PING_INTERVAL, 7);
        let wrong = pings.handle_pong(8, start + PING_INTERVAL);
        assert_eq!(wrong, Err(RejectReason::NonceMismatch));
    }

    fn addresses(count: usize) -> AddressesMessage {
        let one = NetAddress::from("203.0.113.7:16111".parse::<SocketAddr>().unwrap());
        AddressesMessage { address_list: vec![one; count] }
    }

    #[test]
    fn exactly_2500_addresses_are_accepted_and_one_more_is_refused() {
        let now = Instant::now();
        let accepted = AddressQuestion::asked(now).handle_addresses(addresses(2500));
        assert_eq!(accepted.unwrap().len(), 2500);
        let refused = AddressQuestion::asked(now).handle_addresses(addresses(2501));
        let reason = RejectReason::TooMany { kind: PayloadKind::Addresses, count: 2501, limit: 2500 };
        assert_eq!(refused, Err(AnswerError::Reject(reason)));
    }

    #[test]
    fn an_illegal_address_in_the_answer_is_refused() {
        let mut message = addresses(1);
        message.address_list[0].ip = vec![1; 5].into();
        let refused = AddressQuestion::asked(Instant::now()).handle_addresses(message);
        let reason = RejectReason::Conversion(ConversionError::IllegalIpLength(5));
        assert_eq!(refused, Err(AnswerError::Reject(reason)));
    }

    #[test]
    fn addresses_nobody_asked_for_have_no_route() {
        let mut question = AddressQuestion::asked(Instant::now());
        question.handle_addresses(addresses(0)).unwrap();
        let kind = PayloadKind::Addresses;
        let again = question.handle_addresses(addresses(0));
        assert_eq!(again, Err(AnswerError::Protocol(ProtocolError::NoRoute { kind })));
    }

    #[test]
    fn addresses_that_do_not_come_within_120_s_time_out() {
        let start = Instant::now();
        let mut question = AddressQuestion::asked(start);
        let due = question.poll_timeout().unwrap();
        assert_eq!(due, start + ANSWER_TIMEOUT);
        assert!(question.handle_timeout(due - Duration::from_millis(1)).is_ok());
        assert!(question.handle_timeout(due).is_err());
        question.handle_addresses(addresses(1)).unwrap();
        assert!(question.handle_timeout(due).is_ok());
    }
}
