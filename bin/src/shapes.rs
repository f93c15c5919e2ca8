//! The versions of what is printed as JSON, which each object names as its `shape`: `design/json.md` has the table, and
//! `design/shapes` what each version looks like. A field may be added without another version; one that goes, or changes
//! its type or meaning, needs one.

use serde_json::Value;

/// The key.
pub(crate) const KEY: &str = "shape";

/// `status --json`, and `/status.json` of the page.
pub(crate) const STATUS: u32 = 1;

/// `why --json` and `network peer-info --json`.
pub(crate) const STORY: u32 = 1;

/// `ping --json`.
pub(crate) const PING: u32 = 1;

/// `health --json`.
pub(crate) const HEALTH: u32 = 1;

/// `network … --json`, each question.
pub(crate) const NETWORK: u32 = 1;

/// `/api/metrics` of the page.
pub(crate) const MONITOR: u32 = 1;

/// `retry --json`.
pub(crate) const RETRIED: u32 = 1;

/// `discovery verify --json`.
#[cfg(feature = "kad")]
pub(crate) const VERIFICATION: u32 = 1;

/// Events: of `--events`, of `events`, and of the page.
pub(crate) const EVENT: u32 = 1;

/// `dht … --json`, each command.
#[cfg(feature = "mainline")]
pub(crate) const DHT: u32 = 1;

/// `discovery … --json`, each command.
#[cfg(feature = "kad")]
pub(crate) const DISCOVERY: u32 = 1;

/// The object, with its version.
pub(crate) fn versioned(version: u32, mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(KEY.to_owned(), version.into());
    }
    object
}

#[cfg(test)]
mod tests;
