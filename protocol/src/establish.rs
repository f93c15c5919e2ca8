//! The driver of the handshake: performs what `handshake.rs` decides, over one link.

use std::time::Instant;

use tokio::time;

use crate::{
    handshake::{Greeting, HandshakeError, PeerClaim, Ready, Step, Terms},
    link::Link,
    reject::RejectReason,
    wire::{KaspadMessage, Payload},
};

/// Shakes hands over `link`. On [`HandshakeError::Refused`] the Reject has been queued.
pub(crate) async fn establish<C>(
    link: &mut Link,
    terms: Terms<'_>,
    claim: impl FnOnce(PeerClaim) -> Result<C, RejectReason>,
) -> Result<Ready<C>, HandshakeError> {
    let outcome = converse(link, terms, claim).await;
    if let Err(HandshakeError::Refused(reason)) = &outcome {
        send(link, reason.to_payload())?;
    }
    outcome
}

async fn converse<C>(
    link: &mut Link,
    terms: Terms<'_>,
    claim: impl FnOnce(PeerClaim) -> Result<C, RejectReason>,
) -> Result<Ready<C>, HandshakeError> {
    let (mut greeting, version) = Greeting::start(terms.ours.clone(), now());
    send(link, version)?;
    let greeted = loop {
        let Some(message) = receive(link, greeting.poll_timeout()).await? else {
            greeting.handle_timeout(now())?;
            continue;
        };
        let (step, reply) = greeting.receive(message)?;
        if let Some(reply) = reply {
            send(link, reply)?;
        }
        match step {
            Step::Waiting(waiting) => greeting = waiting,
            Step::Done(greeted) => break greeted,
        }
    };
    let agreed = greeted.check(terms, claim).map_err(HandshakeError::Refused)?;
    let (exchange, ready) = agreed.exchange_ready(now());
    send(link, ready)?;
    loop {
        match receive(link, exchange.poll_timeout()).await? {
            Some(message) => return exchange.receive(message),
            None => exchange.handle_timeout(now())?,
        }
    }
}

/// The next message, or `None` when `until` has passed.
async fn receive(link: &mut Link, until: Instant) -> Result<Option<KaspadMessage>, HandshakeError> {
    match time::timeout_at(until.into(), link.receive()).await {
        Ok(received) => Ok(Some(received?)),
        Err(_elapsed) => Ok(None),
    }
}

fn send(link: &Link, payload: Payload) -> Result<(), HandshakeError> {
    Ok(link.lanes().answer(payload)?)
}

/// Tokio's clock, so that tests may stop it.
fn now() -> Instant {
    time::Instant::now().into_std()
}
