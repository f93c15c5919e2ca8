//! How peers are found whose addresses nobody gave.

#[cfg(feature = "peer-cache")]
use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "mdns")]
use clap::ValueEnum;

/// How peers are found whose addresses nobody gave.
#[derive(Args, Clone, Debug)]
pub struct Finding {
    /// Whether peers on the local networks are looked for there, by mDNS, and answered who look for this node. Whoever is
    /// on such a network learns this node's id, and where it listens there.
    #[cfg(feature = "mdns")]
    #[arg(long, env = "PUNCHLINE_MDNS", value_name = "WHEN", default_value = "on")]
    pub mdns: Mdns,
    /// Remember in this file where the peers were reached that this node looks for, so that they are found there again;
    /// `off`: nothing is remembered. Default: beside the identity, with `.peers` after its name.
    #[cfg(feature = "peer-cache")]
    #[arg(long, env = "PUNCHLINE_PEER_CACHE", value_name = "PATH|off")]
    pub peer_cache: Option<PeerCache>,
}

/// Whether the local networks are asked.
#[cfg(feature = "mdns")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mdns {
    /// They are, and answered.
    #[value(aliases = ["true", "yes"])]
    On,
    /// This node is silent there.
    #[value(aliases = ["false", "no"])]
    Off,
}

/// Where it is remembered where peers were reached.
#[cfg(feature = "peer-cache")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCache {
    /// Nowhere.
    Off,
    /// In this file.
    At(PathBuf),
}

#[cfg(feature = "peer-cache")]
impl From<std::ffi::OsString> for PeerCache {
    fn from(text: std::ffi::OsString) -> Self {
        if text == "off" { Self::Off } else { Self::At(text.into()) }
    }
}
