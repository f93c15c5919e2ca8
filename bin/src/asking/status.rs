//! `punchline status`: how a running node is, on one screen or as JSON.

mod screen;

use std::{io::Write as _, time::Duration};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::{cli, control::proto};

/// How often it is asked with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Puts the cursor into the upper left corner and clears what follows.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Asks and prints.
///
/// # Errors
/// If no node answers, or several do and none was named.
pub(super) async fn run(settings: cli::Status) -> anyhow::Result<()> {
    loop {
        let status = super::status(&settings.asking).await?;
        let text = match settings.json {
            true => json(&status)?.to_string() + "\n",
            false => screen::of(&status),
        };
        let text = if settings.watch && !settings.json { format!("{CLEAR}{text}") } else { text };
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        if !settings.watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            () = crate::stop::told() => return Ok(()),
        }
    }
}

/// The answer as `proto/node.proto` has it: each field by its name, with what is empty or 0, but not what is absent.
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
