//! The name of a thing that a node answers for.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Longest name of a service, in bytes. It travels in the first frame of every stream, before the
/// peer is known to be allowed anything, so it stays small.
pub const SERVICE_NAME_BYTES_MAX: usize = 64;

/// The name of a service: `kaspa-p2p`, `grpc`, or one that an operator chose.
///
/// 1 to 64 bytes of ASCII letters, digits, `-`, `_`, `.` or `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service(Arc<str>);

/// Why a string is not the name of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Empty or too long.
    #[error("a service name has 1 to {SERVICE_NAME_BYTES_MAX} bytes, this one has {length}")]
    Length {
        /// How many bytes were given.
        length: usize,
    },
    /// A character that is not allowed.
    #[error("`{character}` is not allowed in a service name; use letters, digits, `-`, `_`, `.` or `/`")]
    Character {
        /// The first one found.
        character: char,
    },
}

impl Service {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is empty, too long, or has a character that is not allowed.
    pub fn new(name: &str) -> Result<Self, ServiceError> {
        if name.is_empty() || name.len() > SERVICE_NAME_BYTES_MAX {
            return Err(ServiceError::Length { length: name.len() });
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_./".contains(*c);
        match name.chars().find(|c| !allowed(c)) {
            Some(character) => Err(ServiceError::Character { character }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
        let longest = "a".repeat(SERVICE_NAME_BYTES_MAX);
        assert_eq!(Service::new(&longest).unwrap().as_str(), longest);
        let length = SERVICE_NAME_BYTES_MAX + 1;
        assert_eq!(Service::new(&"a".repeat(length)), Err(ServiceError::Length { length }));
        assert_eq!(Service::new(""), Err(ServiceError::Length { length: 0 }));
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(Service::new("a\nb"), Err(ServiceError::Character { character: '\n' }));
    }
}
