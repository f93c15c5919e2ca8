//! What is stored in the DHT and found there for whoever asks: of a running node, or of a command's own part in the DHT.

use std::time::{Duration, SystemTime};

use libp2p::PeerId;
use punchline_discovery::{
    Network, UnixTime,
    kad::{Dht, Found, RecordError},
    keys::{RecordKey, content_key},
    record::{Body, Reach, Record, Value},
};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::proto::{self, get_request, put_request};
use crate::{cli::discovery::ContentHash, names::PeerRef};

/// # Errors
/// If others refuse it, or nobody keeps it.
pub(crate) async fn put(dht: &Dht, request: proto::PutRequest) -> Result<proto::Stored, Status> {
    let what = request.what.ok_or_else(|| Status::invalid_argument("nothing to store"))?;
    match what {
        put_request::What::Content(bytes) => {
            let hash = ContentHash(Sha256::digest(&bytes).into());
            let nodes = dht.put(RecordKey::content(&bytes), bytes.into()).await.map_err(refused)?;
            Ok(proto::Stored { nodes: nodes as u32, hash: Some(hash.to_string()), signer: None })
        }
        put_request::What::Value(proto::OwnValue { name, bytes }) => {
            let value = Value { name: name.into_bytes(), bytes: bytes.into() };
            let nodes = dht.say(Body::Value(value)).await.map_err(refused)?;
            Ok(proto::Stored { nodes: nodes as u32, hash: None, signer: None })
        }
        put_request::What::Delegation(bytes) => {
            let signer = signer_of(&bytes)?;
            let nodes = dht.put(RecordKey::Authority(signer), bytes.into()).await.map_err(refused)?;
            let signer = Some(signer.to_string());
            Ok(proto::Stored { nodes: nodes as u32, hash: None, signer })
        }
    }
}

/// Whose key an envelope has; whether the rest holds the DHT judges.
fn signer_of(envelope: &[u8]) -> Result<PeerId, Status> {
    let wrong = |error| Status::invalid_argument(format!("no signed envelope: {error}"));
    let envelope = libp2p::core::SignedEnvelope::from_protobuf_encoding(envelope).map_err(wrong)?;
    let opened = envelope.payload_and_signing_key(
        punchline_discovery::record::DOMAIN.to_owned(),
        punchline_discovery::record::PAYLOAD_TYPE,
    );
    let (_, key) = opened.map_err(|error| Status::invalid_argument(format!("no record: {error}")))?;
    Ok(key.to_peer_id())
}

/// # Errors
/// If nobody keeps it.
pub(crate) async fn get(dht: &Dht, request: proto::GetRequest) -> Result<proto::Got, Status> {
    let what = request.what.ok_or_else(|| Status::invalid_argument("nothing to look for"))?;
    let key = match &what {
        get_request::What::Content(hash) => RecordKey::Content(hash_of(hash)?.0),
        get_request::What::Value(value) => RecordKey::value(id_of(&value.peer)?, value.name.as_bytes()),
        get_request::What::Authority(authority) => RecordKey::Authority(id_of(authority)?),
    };
    let missing = || Status::not_found("nobody keeps it; it is kept for two hours at most");
    match dht.find(key).await.ok_or_else(missing)? {
        Found::Content(bytes) => Ok(proto::Got { value: bytes.into(), ..proto::Got::default() }),
        Found::Record(record) => {
            let value = match record.body() {
                Body::Value(value) => value.bytes.clone(),
                Body::Delegation(delegation) => delegation.to.to_string().into_bytes(),
                // No key that is asked for here is one of a contact.
                Body::Contact(_) => return Err(missing()),
            };
            Ok(proto::Got {
                value: value.into(),
                signer: Some(record.signer().to_string()),
                sequence: Some(record.version().sequence),
                expires_seconds: Some(seconds_until(record.expires())),
            })
        }
    }
}

/// # Errors
/// If it is no hash.
pub(crate) async fn provide(
    dht: &Dht,
    request: proto::ProvideRequest,
) -> Result<proto::Provided, Status> {
    dht.provide(key_of(dht, &request.hash).await?).await;
    Ok(proto::Provided {})
}

/// # Errors
/// If it is no hash.
pub(crate) async fn providers(
    dht: &Dht,
    request: proto::ListProvidersRequest,
) -> Result<proto::Providers, Status> {
    let found = dht.providers(key_of(dht, &request.hash).await?).await;
    Ok(proto::Providers { peers: found.iter().map(ToString::to_string).collect() })
}

/// `peer`: by its id, or that of the authority for which it answers.
///
/// # Errors
/// If nobody keeps what it says of itself.
pub(crate) async fn find_peer(dht: &Dht, peer: PeerRef) -> Result<proto::Contact, Status> {
    let (peer, authority) = match peer {
        PeerRef::Id(peer) => (peer, None),
        PeerRef::Authority(authority) => {
            let nobody = || {
                Status::not_found(format!(
                    "nobody answers for authority:{authority}, as far as the DHT knows"
                ))
            };
            (dht.find_authority(authority).await.ok_or_else(nobody)?, Some(authority.to_string()))
        }
        PeerRef::Name(name) => {
            return Err(Status::invalid_argument(format!(
                "`{name}` is a name, and this node has none; say the id"
            )));
        }
    };
    let missing = || {
        Status::not_found(format!(
            "{peer} says nothing of itself in the DHT; is it running, with --bootstrap and the same --dht-network, for more than a few seconds?"
        ))
    };
    let record = dht.find_peer(peer).await.ok_or_else(missing)?;
    contact(&record, authority).ok_or_else(missing)
}

fn contact(record: &Record, authority: Option<String>) -> Option<proto::Contact> {
    let contact = record.contact()?;
    let now = UnixTime::from(SystemTime::now());
    let age = Duration::from_millis(now.millis().saturating_sub(record.issued().millis()));
    let reach = match contact.nat.reach {
        Reach::Public => "public",
        Reach::Private => "private",
        Reach::Unknown => "unknown",
    };
    Some(proto::Contact {
        peer: record.signer().to_string(),
        addresses: contact.addresses.iter().map(ToString::to_string).collect(),
        services: contact.services.clone(),
        reach: reach.to_owned(),
        agent: Some(contact.agent.clone()).filter(|agent| !agent.is_empty()),
        sequence: record.version().sequence,
        age_seconds: age.as_secs_f64(),
        expires_seconds: seconds_until(record.expires()),
        authority,
    })
}

fn seconds_until(expires: UnixTime) -> f64 {
    let now = UnixTime::from(SystemTime::now());
    Duration::from_millis(expires.millis().saturating_sub(now.millis())).as_secs_f64()
}

fn hash_of(text: &str) -> Result<ContentHash, Status> {
    text.parse().map_err(Status::invalid_argument)
}

fn id_of(text: &str) -> Result<PeerId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("`{text}` is no peer id: {error}")))
}

/// Under which key those are found who have it.
async fn key_of(dht: &Dht, hash: &str) -> Result<Vec<u8>, Status> {
    let hash = hash_of(hash)?;
    let ended = || Status::unavailable("the node's part in the DHT has ended");
    let network: Network =
        dht.status().await.and_then(|status| status.network.parse().ok()).ok_or_else(ended)?;
    Ok(content_key(&network, &hash.0).to_vec())
}

fn refused(error: RecordError) -> Status {
    match error {
        RecordError::Refused { .. } => Status::failed_precondition(error.to_string()),
        RecordError::Nobody => Status::unavailable(
            "no node of the DHT keeps it; see `punchline network dht-status`: is it joined?",
        ),
        RecordError::Ended => Status::unavailable(error.to_string()),
    }
}
