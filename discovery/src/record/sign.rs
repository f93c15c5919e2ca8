//! From what a peer wants to say to a record.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, core::SignedEnvelope, identity::Keypair};
use prost::Message;

use super::{Body, Contact, DOMAIN, PAYLOAD_TYPE, Record, Refusal, Rules, accept::read, wire};
use crate::{moment::UnixTime, network::Network};

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// In which network it holds.
    pub network: Network,
    /// From [`Sequence`](super::Sequence), written down before.
    pub sequence: u64,
    /// When it is signed.
    pub issued: UnixTime,
    /// How long it holds; at most [`LIFETIME_MAX`](super::LIFETIME_MAX).
    pub lasts: Duration,
    /// What it says.
    pub body: Body,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Everybody would refuse it.
    #[error("others would refuse the record: {0}")]
    Refused(#[from] Refusal),
    /// The key cannot sign.
    #[error("the key cannot sign")]
    Key(#[from] libp2p::identity::SigningError),
}

/// Signs a record.
///
/// # Errors
/// If others would refuse it, or the key cannot sign.
pub fn sign(key: &Keypair, statement: Statement) -> Result<Record, SignError> {
    let Statement { network, sequence, issued, lasts, body } = statement;
    let payload = wire::Payload {
        network: network.as_str().to_owned(),
        peer: key.public().to_peer_id().to_bytes(),
        sequence,
        issued_ms: issued.millis(),
        expires_ms: issued.plus(lasts).millis(),
        body: Some(said(body)),
    };
    let (domain, kind) = (DOMAIN.to_owned(), PAYLOAD_TYPE.to_vec());
    let envelope = SignedEnvelope::new(key, domain, kind, payload.encode_to_vec())?;
    let everywhere = Rules { network, addresses: Arc::new(|_: &Multiaddr, _: PeerId| true) };
    let record = read(&everywhere, &envelope.into_protobuf_encoding(), issued)?;
    let (bytes, limit) = (record.bytes.len(), record.key().bytes_max());
    if bytes > limit { Err(Refusal::TooLarge { bytes, limit }.into()) } else { Ok(record) }
}

fn said(body: Body) -> wire::Body {
    match body {
        Body::Contact(Contact { addresses, capabilities, nat, services, agent }) => {
            wire::Body::Contact(wire::Contact {
                addresses: addresses.iter().map(Multiaddr::to_vec).collect(),
                capabilities: capabilities.bits(),
                reach: nat.reach.number(),
                mapping: nat.mapping.number(),
                services,
                agent,
            })
        }
        Body::Delegation(delegation) => {
            wire::Body::Delegation(wire::Delegation { to: delegation.to.to_bytes() })
        }
        Body::Value(value) => wire::Body::Value(wire::Value { name: value.name, bytes: value.bytes }),
    }
}
