//! Which Kaspa network: its name on the wire and its default port.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A Kaspa network. Peers of different networks refuse each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The one with money in it.
    Mainnet,
    /// A public test network, by number (10 and 12 are in use).
    Testnet(u32),
    /// For development; needs proof of work.
    Devnet,
    /// For simulation; needs none.
    Simnet,
}

/// The text names no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no network; say mainnet, testnet-10, devnet or simnet")]
pub struct ParseNetworkError {
    text: String,
}

impl Network {
    /// The port on which upstream nodes of this network listen for peers.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Mainnet => 16111,
            Self::Testnet(10) => 16211,
            Self::Testnet(12) => 16311,
            Self::Testnet(_) => 16411,
            Self::Simnet => 16511,
            Self::Devnet => 16611,
        }
    }
}

/// The name on the wire, such as `kaspa-testnet-10`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mainnet => f.write_str("kaspa-mainnet"),
            Self::Testnet(number) => write!(f, "kaspa-testnet-{number}"),
            Self::Devnet => f.write_str("kaspa-devnet"),
            Self::Simnet => f.write_str("kaspa-simnet"),
        }
    }
}

/// Takes the name with or without its `kaspa-` prefix.
impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let unknown = || ParseNetworkError { text: text.into() };
        match text.strip_prefix("kaspa-").unwrap_or(text) {
            "mainnet" => Ok(Self::Mainnet),
            "devnet" => Ok(Self::Devnet),
            "simnet" => Ok(Self::Simnet),
            other => {
                let number = other.strip_prefix("testnet-").ok_or_else(unknown)?;
                let network = Self::Testnet(number.parse().map_err(|_| unknown())?);
                // Only the canonical spelling: `testnet-010` would display differently.
                if network.to_string().ends_with(other) { Ok(network) } else { Err(unknown()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_parses_with_and_without_prefix_and_shows_its_wire_name() {
        let all = [
            (Network::Mainnet, "kaspa-mainnet", 16111),
            (Network::Testnet(10), "kaspa-testnet-10", 16211),
            (Network::Testnet(12), "kaspa-testnet-12", 16311),
            (Network::Testnet(11), "kaspa-testnet-11", 16411),
            (Network::Simnet, "kaspa-simnet", 16511),
            (Network::Devnet, "kaspa-devnet", 16611),
        ];
        for (network, name, port) in all {
            assert_eq!(network.to_string(), name);
            assert_eq!(name.parse(), Ok(network));
            assert_eq!(name["kaspa-".len()..].parse(), Ok(network));
            assert_eq!(network.default_port(), port);
        }
    }

    #[test]
    fn anything_else_is_no_network() {
        for text in ["", "kaspa-", "Mainnet", "testnet", "testnet-", "testnet-010", "testnet-+1"] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }
}
