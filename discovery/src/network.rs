//! Which network a node belongs to.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest name of a network, in bytes: it is part of protocol names and of every record.
pub const NETWORK_BYTES_MAX: usize = 32;

/// A network of nodes that find each other, and nobody else: `main`, `test`, or a name of the operator's.
///
/// 1 to 32 bytes of ASCII letters, digits, `-`, `_` or `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(Arc<str>);

/// Why a string does not name a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Empty or too long.
    #[error("a network's name has 1 to {NETWORK_BYTES_MAX} bytes, this one has {length}")]
    Length {
        /// How many bytes were given.
        length: usize,
    },
    /// A character that is not allowed.
    #[error("`{character}` is not allowed in a network's name; use letters, digits, `-`, `_` or `.`")]
    Character {
        /// The first one found.
        character: char,
    },
}

impl Network {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What Kademlia's protocol is called in this network. Nodes of another one do not even speak to ours, so no two
    /// networks can flow into each other.
    pub fn kad_protocol(&self) -> String {
        format!("/punchline/{self}/kad/1.0.0")
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() || name.len() > NETWORK_BYTES_MAX {
            return Err(NetworkError::Length { length: name.len() });
        }
        match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
            Some(character) => Err(NetworkError::Character { character }),
            None => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_is_part_of_its_protocols_name_and_cannot_be_another_path() {
        let main: Network = "main".parse().unwrap();
        assert_eq!(main.kad_protocol(), "/punchline/main/kad/1.0.0");
        assert_eq!("a/b".parse::<Network>(), Err(NetworkError::Character { character: '/' }));
        assert_eq!("".parse::<Network>(), Err(NetworkError::Length { length: 0 }));
        let length = NETWORK_BYTES_MAX + 1;
        assert_eq!("n".repeat(length).parse::<Network>(), Err(NetworkError::Length { length }));
    }
}
