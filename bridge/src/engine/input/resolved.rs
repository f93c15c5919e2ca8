//! What DNS said about relays.

use serde::{Deserialize, Serialize};

use crate::addr::{RelayAddr, RelayName};

/// What a name of relays stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolved {
    pub(crate) name: RelayName,
    /// Each with its identity; not judged yet.
    #[serde(with = "crate::engine::record::relay_addrs")]
    pub(crate) relays: Vec<RelayAddr>,
    /// Why there is none, if so.
    pub(crate) failure: Option<String>,
}

impl Resolved {
    /// Addresses of relays that one name may stand for; further records do not count.
    pub(crate) const RELAYS_MAX: usize = 32;
}
