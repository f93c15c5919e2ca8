//! What the engine and the driver call the things under way between them.

use serde::{Deserialize, Serialize};

/// One call of `open` that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct OpenId(pub(crate) u64);

/// One dial that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DialId(pub(crate) u64);

/// One request for a reservation that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ReserveId(pub(crate) u64);

/// One inbound stream that has neither been taken nor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct InboundId(pub(crate) u64);

/// One ping that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PingId(pub(crate) u64);

/// One test of an address of ours that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TestId(pub(crate) u64);
