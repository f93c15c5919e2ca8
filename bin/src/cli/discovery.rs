//! What is stored in the DHT and found there, by hand.

mod verify;

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, builder::BoolishValueParser};
use ipnet::IpNet;

pub use self::verify::Verify;
use super::{
    Node,
    asking::{Asking, Timeout},
    domains::BootstrapAddr,
    values::Many,
};
use crate::names::PeerRef;

/// `punchline discovery`.
#[derive(Args, Debug)]
pub struct Discovery {
    /// What to do.
    #[command(subcommand)]
    pub what: DiscoveryWhat,
}

/// What to do in the DHT.
#[derive(Debug, Subcommand)]
pub enum DiscoveryWhat {
    /// Store up to 8 KiB for two hours: with --name signed by this node, else under its hash, which is printed.
    Put(Put),
    /// Print what is stored: under a hash, or by a peer under a name.
    Get(Get),
    /// Say that this node has a file, whatever its size; its hash is printed, by which others find who has it.
    Provide(Provide),
    /// Print who says that it has what a hash is of.
    Providers(Providers),
    /// Print what a peer says of itself: where it is reached, and what it answers for.
    FindPeer(FindPeer),
    /// Say, as an authority whose key is in a file, which peer answers for it: whoever says --peer authority:ID comes to
    /// that peer. It holds for two hours and is said again each hour, until this is told to stop.
    Delegate(Delegate),
    /// Whether a node is found by others, and finds them, in six steps: nodes of the DHT are known; others keep what this
    /// node says; a stranger reads it; somebody else is found; both directions are open; a stranger finds this node in its
    /// namespace. The node that runs here is verified, or else one that is started for that, with these settings. Exit
    /// code 0: all pass; 1: one or more warn; 2: one or more fail.
    Verify(Box<Verify>),
}

impl DiscoveryWhat {
    /// By what the DHT is reached; none where a node is verified.
    pub(crate) fn through(&mut self) -> Option<&mut Through> {
        Some(match self {
            Self::Put(put) => &mut put.through,
            Self::Get(get) => &mut get.through,
            Self::Provide(provide) => &mut provide.through,
            Self::Providers(providers) => &mut providers.through,
            Self::FindPeer(find) => &mut find.through,
            Self::Delegate(delegate) => &mut delegate.through,
            Self::Verify(_) => return None,
        })
    }

    /// The settings of a node that is started for it.
    pub(super) fn node(&mut self) -> Option<&mut Node> {
        match self {
            Self::Verify(verify) => Some(&mut verify.settings),
            _ => None,
        }
    }
}

/// By what the DHT is reached: a node that runs here and is in it, or this command itself.
#[derive(Args, Debug)]
pub struct Through {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Ask no node that runs here, but join the DHT at this node of it, for as long as it takes.
    #[arg(long, env = "PUNCHLINE_BOOTSTRAP", value_name = "ADDR")]
    pub bootstrap: Vec<Many<BootstrapAddr>>,
    /// Which DHT is joined: nodes of different names never meet.
    #[arg(long, env = "PUNCHLINE_DHT_NETWORK", value_name = "NAME", default_value = "main")]
    pub dht_network: String,
    /// Treat these ranges as public, in the DHT that is joined.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Give up if the DHT is not joined within this.
    #[arg(long, env = "PUNCHLINE_TIMEOUT", value_name = "TIME", default_value = "30s")]
    pub timeout: Timeout,
    /// Print one JSON object.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline discovery put`.
#[derive(Args, Debug)]
pub struct Put {
    /// What to store.
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub text: Option<String>,
    /// Store what is in this file.
    #[arg(long, env = "PUNCHLINE_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Store it as a value of this node, signed with its key, under this name, in place of what was there before.
    #[arg(long, env = "PUNCHLINE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// `punchline discovery get`.
#[derive(Args, Debug)]
pub struct Get {
    /// 64 hexadecimal digits; or with --name the peer whose value it is.
    #[arg(value_name = "HASH|PEER")]
    pub of: String,
    /// The name of the value.
    #[arg(long, env = "PUNCHLINE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// `punchline discovery provide`.
#[derive(Args, Debug)]
pub struct Provide {
    /// The file, or its SHA-256 as 64 hexadecimal digits.
    #[arg(value_name = "FILE|HASH")]
    pub of: PathBuf,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// `punchline discovery providers`.
#[derive(Args, Debug)]
pub struct Providers {
    /// 64 hexadecimal digits.
    pub hash: ContentHash,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// `punchline discovery find-peer`.
#[derive(Args, Debug)]
pub struct FindPeer {
    /// Its id, its name here, or authority:ID.
    #[arg(value_name = "PEER")]
    pub peer: PeerRef,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// `punchline discovery delegate`.
#[derive(Args, Debug)]
pub struct Delegate {
    /// The authority's private key; made if it does not exist. It need not be on the machine of the peer.
    #[arg(long, env = "PUNCHLINE_AUTHORITY", value_name = "FILE")]
    pub authority: PathBuf,
    /// Who answers for it, by the id or the name that it has here.
    #[arg(long, env = "PUNCHLINE_TO", value_name = "ID|NAME")]
    pub to: PeerRef,
    /// Say it once, and end: it holds for two hours.
    #[arg(long, env = "PUNCHLINE_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,
    /// By what.
    #[command(flatten)]
    pub through: Through,
}

/// The SHA-256 of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

impl FromStr for ContentHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is no hash; say the 64 hexadecimal digits of a SHA-256");
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(form());
        }
        let byte =
            |at: usize| text.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(form)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hash_is_written_as_it_was_read_and_nothing_else_is_one() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<ContentHash>().unwrap().to_string(), text);
        for bad in ["", "00", &"0g".repeat(32), &"+f".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<ContentHash>().unwrap_err().contains("64 hexadecimal"), "{bad}");
        }
    }
}
