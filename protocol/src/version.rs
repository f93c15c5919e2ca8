//! The Version message as a value: parsed at the border, trusted afterwards.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use uuid::Uuid;

use crate::wire::{
    ConversionError, id_from_bytes,
    proto::{SubnetworkId, VersionMessage},
    subnetwork_from_message,
};

/// A protocol version we can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// What master (2.0.1) speaks.
    V10,
    /// What the published 2.1.0 speaks: proof and trusted data in chunks.
    V11,
}

impl ProtocolVersion {
    /// The number in a Version message.
    pub fn number(self) -> u32 {
        match self {
            Self::V10 => 10,
            Self::V11 => 11,
        }
    }

    /// The version two nodes use when we advertise `self` and the peer `remote`: the lower of
    /// the two, newer ones counting as ours. `None` if the peer is too old.
    pub fn agree(self, remote: u32) -> Option<Self> {
        match remote {
            0..=9 => None,
            10 => Some(Self::V10),
            _ => Some(self),
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// What a node calls itself: at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAgent(String);

/// Longest user agent, in bytes; upstream silently cuts what is longer.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// Longest network name kept, in bytes: twice the longest that exists. It ends up in logs, and
/// what is longer is no network of ours anyway.
const NETWORK_BYTES_MAX: usize = 64;

/// What the user agent of every node of ours contains.
pub const USER_AGENT_MARK: &str = "/punchline:";

impl UserAgent {
    /// The user agent `text`, cut to [`USER_AGENT_BYTES_MAX`] at a character's boundary.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        cut(&mut text, USER_AGENT_BYTES_MAX);
        Self(text)
    }

    /// Ours, in upstream's format, with an optional comment of the operator.
    pub fn ours(comment: Option<&str>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let comment = comment.map(|text| format!("({text})")).unwrap_or_default();
        Self::new(format!("{USER_AGENT_MARK}{version}/punchline:{version}{comment}/"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the node says it is one of ours; its Kaspa id can then be checked.
    pub fn is_ours(&self) -> bool {
        self.0.contains(USER_AGENT_MARK)
    }
}

impl fmt::Display for UserAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shortens `text` to at most `bytes_max` bytes without splitting a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// What a peer says about itself. Only `id`, `network`, `protocol_version` and, for our own
/// nodes, the binding of `id` are checked; the rest is hearsay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The highest protocol version the peer speaks.
    pub protocol_version: u32,
    /// Always 0 today.
    pub services: u64,
    /// The peer's clock, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Where the peer says it can be reached.
    pub address: Option<SocketAddr>,
    /// The peer's Kaspa id.
    pub id: Uuid,
    /// What the peer calls itself.
    pub user_agent: UserAgent,
    /// The peer wants no transactions.
    pub disable_relay_tx: bool,
    /// The peer's subnetwork, if it is limited to one.
    pub subnetwork_id: Option<[u8; 20]>,
    /// The peer's network, as it spells it (its first 64 bytes).
    pub network: String,
}

impl TryFrom<VersionMessage> for Version {
    type Error = ConversionError;

    fn try_from(mut message: VersionMessage) -> Result<Self, ConversionError> {
        cut(&mut message.network, NETWORK_BYTES_MAX);
        Ok(Self {
            protocol_version: message.protocol_version,
            services: message.services,
            timestamp_ms: message.timestamp,
            address: message.address.map(SocketAddr::try_from).transpose()?,
            id: id_from_bytes(&message.id)?,
            user_agent: UserAgent::new(message.user_agent),
            disable_relay_tx: message.disable_relay_tx,
            subnetwork_id: message.subnetwork_id.as_ref().map(subnetwork_from_message).transpose()?,
            network: message.network,
        })
    }
}

impl From<Version> for VersionMessage {
    fn from(version: Version) -> Self {
        Self {
            protocol_version: version.protocol_version,
            services: version.services,
            timestamp: version.timestamp_ms,
            address: version.address.map(Into::into),
            id: Bytes::copy_from_slice(version.id.as_bytes()),
            user_agent: version.user_agent.0,
            disable_relay_tx: version.disable_relay_tx,
            subnetwork_id: version
                .subnetwork_id
                .map(|id| SubnetworkId { bytes: Bytes::copy_from_slice(&id) }),
            network: version.network,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_cut_to_256_bytes_between_characters() {
        let agent = UserAgent::new(format!("{}ü", "x".repeat(255)));
        assert_eq!(agent.as_str(), "x".repeat(255));
        assert_eq!(UserAgent::new("ü".repeat(200)).as_str().len(), 256);
    }

    #[test]
    fn a_network_name_without_end_is_cut_and_still_no_network_of_ours() {
        let message = VersionMessage {
            id: Bytes::from_static(&[1; 16]),
            network: "kaspa-simnet".repeat(1000),
            ..Default::default()
        };
        let version = Version::try_from(message);
        assert_eq!(version.map(|version| version.network.len()), Ok(64));
    }

    #[test]
    fn our_user_agent_carries_the_mark_and_a_stock_one_does_not() {
        assert!(UserAgent::ours(Some("lab")).is_ours());
        assert!(!UserAgent::new("/kaspad:2.1.0/kaspad:2.1.0/").is_ours());
    }

    #[test]
    fn versions_10_and_11_agree_and_older_ones_do_not() {
        use ProtocolVersion::{V10, V11};
        let cases = [
            (V11, 9, None),
            (V11, 10, Some(V10)),
            (V11, 11, Some(V11)),
            (V11, 12, Some(V11)),
            (V10, 9, None),
            (V10, 10, Some(V10)),
            (V10, 11, Some(V10)),
        ];
        for (local, remote, agreed) in cases {
            assert_eq!(local.agree(remote), agreed, "{local} and {remote}");
        }
    }
}
