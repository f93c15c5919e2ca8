//! Parsing what arrives as bare bytes: addresses, UUIDs, subnetwork ids.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use super::proto::{NetAddress, SubnetworkId};

/// A field of a message does not have the shape the protocol demands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConversionError {
    /// An ip address of neither 4 nor 16 bytes.
    #[error("illegal IP length {0}")]
    IllegalIpLength(usize),
    /// A port above 65535.
    #[error("illegal port {0}")]
    IllegalPort(u32),
    /// A peer id that is not a UUID of 16 bytes.
    #[error("illegal peer id length {0}")]
    IllegalIdLength(usize),
    /// A subnetwork id of other than 20 bytes.
    #[error("illegal subnetwork id length {0}")]
    IllegalSubnetworkLength(usize),
    /// A hash or transaction id of other than 32 bytes.
    #[error("illegal hash length {0}")]
    IllegalHashLength(usize),
}

impl TryFrom<NetAddress> for SocketAddr {
    type Error = ConversionError;

    fn try_from(message: NetAddress) -> Result<Self, ConversionError> {
        let port =
            u16::try_from(message.port).map_err(|_| ConversionError::IllegalPort(message.port))?;
        Ok(Self::new(ip_from_bytes(&message.ip)?, port))
    }
}

impl From<SocketAddr> for NetAddress {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        };
        Self { timestamp: 0, ip, port: address.port().into() }
    }
}

fn ip_from_bytes(bytes: &[u8]) -> Result<IpAddr, ConversionError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    let octets =
        <[u8; 16]>::try_from(bytes).map_err(|_| ConversionError::IllegalIpLength(bytes.len()))?;
    Ok(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
}

/// The UUID in a Version's `id` field.
///
/// # Errors
/// [`ConversionError::IllegalIdLength`] if it is not 16 bytes long.
pub fn id_from_bytes(bytes: &[u8]) -> Result<Uuid, ConversionError> {
    Uuid::from_slice(bytes).map_err(|_| ConversionError::IllegalIdLength(bytes.len()))
}

/// The 20 bytes of a subnetwork id.
///
/// # Errors
/// [`ConversionError::IllegalSubnetworkLength`] for any other length.
pub fn subnetwork_from_message(message: &SubnetworkId) -> Result<[u8; 20], ConversionError> {
    <[u8; 20]>::try_from(message.bytes.as_ref())
        .map_err(|_| ConversionError::IllegalSubnetworkLength(message.bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(ip: &[u8], port: u32) -> NetAddress {
        NetAddress { timestamp: 0, ip: Bytes::copy_from_slice(ip), port }
    }

    #[test]
    fn an_ip_of_4_or_16_bytes_survives_both_ways() {
        for text in ["203.0.113.7:16111", "[2001:db8::7]:16511"] {
            let address: SocketAddr = text.parse().expect("a literal address");
            assert_eq!(SocketAddr::try_from(NetAddress::from(address)), Ok(address));
        }
    }

    #[test]
    fn an_ip_of_any_other_length_is_illegal() {
        for length in [0, 3, 5, 15, 17] {
            assert_eq!(
                SocketAddr::try_from(message(&vec![1; length], 1)),
                Err(ConversionError::IllegalIpLength(length))
            );
        }
    }

    #[test]
    fn a_port_above_16_bits_is_illegal() {
        assert_eq!(
            SocketAddr::try_from(message(&[1; 4], 65_536)),
            Err(ConversionError::IllegalPort(65_536))
        );
    }
}
