//! What is asked of a node that runs on this machine: `punchline status`, `ping`, `why`, `network`, `events`, `reload`,
//! `retry`, `wait-ready`, `health`.

mod events;
mod health;
mod network;
mod ping;
mod reload;
mod retry;
mod status;
mod why;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::{
    cli::{Ask, Asking},
    control::{self, proto},
    shapes, stop,
};

/// Asks and prints. `check`: only whether the settings are usable; but `health --check` means what it says. `quiet`: nothing
/// is shown while it waits.
///
/// # Errors
/// If no node answers, or several do and none was named.
pub async fn run(ask: Ask, check: bool, quiet: bool) -> anyhow::Result<()> {
    match ask {
        Ask::Health(health) => health::run(health, check).await,
        _ if check => crate::usable(),
        Ask::Status(status) => status::run(status).await,
        Ask::Ping(ping) => ping::run(ping).await,
        Ask::Why(why) => why::run(why).await,
        Ask::Network(network) => network::run(network.question).await,
        Ask::Events(events) => events::run(events).await,
        Ask::Reload(reload) => reload::run(reload).await,
        Ask::Retry(retry) => retry::run(retry).await,
        Ask::WaitReady(wait) => health::wait(wait, quiet).await,
    }
}

/// What a node says in place of an answer.
fn refused(error: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the node does not answer: {}", error.message())
}

/// # Errors
/// If no node answers, or several do and none was named, or this program is told to stop meanwhile.
async fn status(asking: &Asking) -> anyhow::Result<proto::Status> {
    let asked = async {
        let mut node = control::ask(asking).await?;
        let answer = node.get_status(proto::GetStatusRequest {}).await;
        Ok(answer.map_err(|error| refused(&error))?.into_inner())
    };
    tokio::select! {
        answer = asked => answer,
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    }
}

/// The answer as `proto/node.proto` has it: each field by its name, with what is empty or 0, but not what is absent.
fn json(kind: &str, version: u32, message: &impl Message) -> anyhow::Result<Value> {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
    let kind = pool.get_message_by_name(&format!("punchline.v1.{kind}"));
    let kind = kind.ok_or_else(|| anyhow::anyhow!("the program does not know its own messages"))?;
    let message = DynamicMessage::decode(kind, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let printed = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    Ok(shapes::versioned(version, printed))
}

/// One of each of the objects that the questions print, and is no message of the protocol, with its version.
#[cfg(test)]
pub(crate) fn examples(status: &proto::Status) -> Vec<(&'static str, u32, Value)> {
    let mut all = network::examples(status);
    all.extend(ping::examples());
    all.push(("health", shapes::HEALTH, health::health_json(status)));
    all
}

/// A node's status likewise.
pub(crate) fn status_json(status: &proto::Status) -> anyhow::Result<Value> {
    json("Status", shapes::STATUS, status)
}

/// Who was found, as `network peers --json` prints it.
pub(crate) fn found_json(found: &proto::Found) -> Value {
    network::found_json(found)
}

/// What came of a verification, likewise.
#[cfg(feature = "kad")]
pub(crate) fn verification_json(verification: &proto::Verification) -> anyhow::Result<Value> {
    json("Verification", shapes::VERIFICATION, verification)
}

/// What a node tries now, likewise.
pub(crate) fn retried_json(retried: &proto::Retried) -> anyhow::Result<Value> {
    json("Retried", shapes::RETRIED, retried)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_has_every_field_by_its_name_and_numbers_as_numbers() {
        let peer =
            proto::Peer { path: "direct".to_owned(), sent_direct_bytes: 1 << 40, ..Default::default() };
        let status = proto::Status { peers: vec![peer], ..Default::default() };
        let json = status_json(&status).unwrap();
        let peer = &json["peers"][0];
        assert_eq!(peer["sent_direct_bytes"], 1_u64 << 40);
        assert_eq!((&peer["streams"], &json["relays"]), (&0.into(), &Value::Array(Vec::new())));
        assert!(peer.get("why_relayed").is_none(), "absent is not empty: {peer}");
    }
}
