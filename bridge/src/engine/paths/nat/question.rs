//! What the driver is to ask STUN servers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::nat::AnswerFrom;

/// One question to a STUN server, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProbeId(pub(crate) u64);

/// Questions to STUN servers that leave from one port, which no other ones leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RunId(pub(crate) u64);

/// A question to a STUN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) probe: ProbeId,
    pub(crate) run: RunId,
    pub(crate) to: SocketAddr,
    pub(crate) answer_from: AnswerFrom,
}
