//! What an engine is told, as text: a line says who it is, and one line each what it was told and when. Told
//! the same again, it does the same.
//!
//! The lines are JSON, in no stable form: they are for this version of the code alone.

use std::{
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::OnceLock,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::input::Input;
use crate::config::Config;

/// The first line: what an engine is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) local: PeerId,
    pub(crate) seed: u64,
    pub(crate) config: Config,
}

/// Each other line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Nanoseconds since the process began its first journal.
    at: u64,
    /// What the engine has answered so far, before it is told this.
    pub(crate) actions: Sum,
    pub(crate) events: Sum,
    /// What it is told; none: a deadline of its own has come.
    pub(crate) input: Option<Input>,
}

/// How many things were said, and a hash of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    hash: u64,
}

impl Sum {
    /// One more.
    pub(crate) fn add(&mut self, said: &impl Debug) {
        let mut hasher = DefaultHasher::new();
        (self.hash, format!("{said:?}")).hash(&mut hasher);
        *self = Self { count: self.count + 1, hash: hasher.finish() };
    }
}

impl Line {
    pub(crate) fn new(now: Instant, actions: Sum, events: Sum, input: Option<Input>) -> Self {
        Self { at: nanoseconds(now), actions, events, input }
    }

    /// When the engine was told.
    #[cfg(test)]
    pub(crate) fn at(&self) -> Option<Instant> {
        since_origin(self.at)
    }
}

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Moments are written and read relative to this one: the first that is given to this function.
pub(crate) fn count_from(now: Instant) {
    ORIGIN.get_or_init(|| now);
}

/// Earlier moments than the origin become the origin.
fn nanoseconds(moment: Instant) -> u64 {
    let since = ORIGIN.get().map(|origin| moment.saturating_duration_since(*origin));
    since.unwrap_or_default().as_nanos().try_into().unwrap_or(u64::MAX)
}

/// None if there is no origin.
fn since_origin(nanoseconds: u64) -> Option<Instant> {
    ORIGIN.get()?.checked_add(Duration::from_nanos(nanoseconds))
}

/// Some types are told in events as people read them. Here nothing may be lost: a mirror with the same variants is
/// written instead.
macro_rules! whole {
    ($module:ident, $($part:ident)::+, $mirror:ident { $($variant:ident $({ $($field:ident: $of:ty),* })?),* $(,)? }) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            use crate::$($part)::+ as Original;

            #[derive(Serialize, Deserialize)]
            enum $mirror { $($variant $({ $($field: $of),* })?),* }

            pub(crate) fn serialize<S: Serializer>(value: &Original, serializer: S) -> Result<S::Ok, S::Error> {
                match value.clone() {
                    $(Original::$variant $({ $($field),* })? => $mirror::$variant $({ $($field),* })?),*
                }
                .serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Original, D::Error> {
                Ok(match $mirror::deserialize(deserializer)? {
                    $($mirror::$variant $({ $($field),* })? => Original::$variant $({ $($field),* })?),*
                })
            }
        }
    };
}

whole!(path, path::Path, Path { Direct, Relayed { relay: libp2p::PeerId } });

whole!(close_cause, error::CloseCause, CloseCause {
    Unused,
    Asked,
    Shutdown,
    Unresponsive,
    AddressGone,
    Slept,
    Barred,
    Peer,
    System,
    Reset,
    Network { cause: String },
});

whole!(upgrade_failure, error::UpgradeFailure, UpgradeFailure {
    NoCandidateHere,
    WebOnly,
    NoCandidateThere,
    AllRefused { refused: crate::addr::RefusedAddresses },
    PunchFailed { failures: crate::error::DialFailures },
    NothingInCommon { ours: crate::error::SeenOver, theirs: crate::error::SeenOver },
    Limit { limit: u32 },
    PortsChange { ours: crate::nat::NatKind, theirs: crate::nat::NatKind },
    AtPeer { verdict: crate::error::PunchVerdict },
    Unsupported,
    Exchange { cause: String },
});

pub(super) mod moment {
    use std::time::Instant;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        moment: &Option<Instant>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(super::nanoseconds).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Instant>, D::Error> {
        let nanoseconds: Option<u64> = Option::deserialize(deserializer)?;
        Ok(nanoseconds.and_then(super::since_origin))
    }
}

pub(super) mod relay {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::addr::RelayAddr;

    pub(crate) fn serialize<S: Serializer>(relay: &RelayAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(relay)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RelayAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Lists of what is written as it is read.
macro_rules! texts {
    ($module:ident, $of:ident) => {
        pub(crate) mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

            use crate::addr::$of;

            pub(crate) fn serialize<S: Serializer>(
                list: &[$of],
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(list.iter().map(ToString::to_string))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<$of>, D::Error> {
                let texts = Vec::<String>::deserialize(deserializer)?;
                texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
            }
        }
    };
}

texts!(relays, RelayLocator);
texts!(relay_addrs, RelayAddr);
