//! The words on the wire are upstream's, every one of them.

use anyhow::{Context, Result};
use kaspa_p2p_lib::pb;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use punchline_protocol::{FILE_DESCRIPTOR_SET, KaspadMessage};

/// The highest number tried; upstream's highest is 67, and 101 and 102 are the two route ids.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=100;

#[test]
fn both_sides_know_the_same_members_of_the_envelope() -> Result<()> {
    let mut known = 0;
    for number in NUMBERS {
        let mut empty = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut empty);
        empty.push(0);
        let ours = KaspadMessage::decode(empty.as_slice())?.payload;
        let theirs = pb::KaspadMessage::decode(empty.as_slice())?.payload;
        assert_eq!(ours.is_some(), theirs.is_some(), "number {number}: {ours:?}, upstream {theirs:?}");
        known += u32::from(ours.is_some());
    }
    assert!(known > 40, "{known}");
    Ok(())
}

#[test]
fn every_field_that_we_read_is_upstreams_and_it_has_no_other_there() -> Result<()> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
    let envelope = pool.get_message_by_name("protowire.KaspadMessage").context("no envelope")?;
    let payload = envelope.oneofs().next().context("no payload")?;
    for member in payload.fields().filter(is_read) {
        let mut message = DynamicMessage::new(envelope.clone());
        message.set_field(&member, filled(&member)?);
        let bytes = message.encode_to_vec();
        let theirs = pb::KaspadMessage::decode(bytes.as_slice())?;
        assert_eq!(theirs.encode_to_vec(), bytes, "{}: {theirs:?}", member.name());
        let ours = KaspadMessage::decode(bytes.as_slice())?;
        assert_eq!(ours.encode_to_vec(), bytes, "{}: {ours:?}", member.name());
        // A field that we do not know, and so did not fill, shows its default.
        let shown = format!("{:?}", theirs.payload);
        for unset in [": 0", ": None", ": []", ": false", ": \"\""] {
            assert!(!shown.contains(unset), "{}: {shown}", member.name());
        }
    }
    Ok(())
}

/// Members that are passed on as bare bytes, whole or in part, are not.
fn is_read(member: &FieldDescriptor) -> bool {
    matches!(member.kind(), Kind::Message(_)) && member.name() != "trustedDataChunk"
}

/// A value of the field that is not its default, nor is any within.
fn filled(field: &FieldDescriptor) -> Result<Value> {
    let value = match field.kind() {
        Kind::Bool => Value::Bool(true),
        Kind::Uint32 => Value::U32(7),
        Kind::Uint64 => Value::U64(8),
        Kind::Int64 => Value::I64(9),
        Kind::String => Value::String("x".into()),
        Kind::Bytes => Value::Bytes(vec![1, 2].into()),
        Kind::Message(message) => Value::Message(filled_message(&message)?),
        other => anyhow::bail!("{}: {other:?} is new here", field.full_name()),
    };
    Ok(if field.is_list() { Value::List(vec![value]) } else { value })
}

fn filled_message(descriptor: &MessageDescriptor) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        message.set_field(&field, filled(&field)?);
    }
    Ok(message)
}
