//! A node's status as JSON, which scripts and the page read.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::proto;

/// The answer as `proto/node.proto` has it: each field by its name, with what is empty or 0, but not what is absent.
///
/// # Errors
/// Never, unless the program was built wrongly.
pub(crate) fn json(status: &proto::Status) -> anyhow::Result<Value> {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
    let kind = pool.get_message_by_name("punchline.v1.Status");
    let kind = kind.ok_or_else(|| anyhow::anyhow!("the program does not know its own messages"))?;
    let message = DynamicMessage::decode(kind, status.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
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
        let json = json(&status).unwrap();
        let peer = &json["peers"][0];
        assert_eq!(peer["sent_direct_bytes"], 1_u64 << 40);
        assert_eq!((&peer["streams"], &json["relays"]), (&0.into(), &Value::Array(Vec::new())));
        assert!(peer.get("why_relayed").is_none(), "absent is not empty: {peer}");
    }
}
