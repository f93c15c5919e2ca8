//! The message of the exchange about a hole punch.
//!
//! Source: libp2p's specification `relay/DCUtR.md`. The field from 1000 on is ours: protobuf lets whoever
//! does not know a field skip it.

use libp2p::Multiaddr;
use prost::Message;

/// Between the two ends of a relayed connection.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/libp2p/dcutr");

/// CONNECT or SYNC.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HolePunch {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    /// CONNECT: where the sender may be reached.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) obs_addrs: Vec<Vec<u8>>,
    /// CONNECT: proves to a peer on the same host that the sender runs there too.
    #[prost(bytes = "vec", optional, tag = "1000")]
    pub(crate) host: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    Connect = 100,
    Sync = 300,
}

impl HolePunch {
    pub(crate) fn connect(addresses: &[Multiaddr], host: Option<[u8; 32]>) -> Self {
        Self {
            kind: Kind::Connect as i32,
            obs_addrs: addresses.iter().map(Multiaddr::to_vec).collect(),
            host: host.map(Vec::from),
        }
    }

    pub(crate) fn sync() -> Self {
        Self { kind: Kind::Sync as i32, obs_addrs: Vec::new(), host: None }
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as i32
    }

    /// The addresses in it; what is none is left out.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        self.obs_addrs.iter().filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_what_the_specification_says() {
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        let bytes = HolePunch::connect(std::slice::from_ref(&address), None).encode_to_vec();
        assert_eq!(bytes, [8, 100, 18, 8, 4, 1, 2, 3, 4, 6, 0, 5]);
        assert_eq!(HolePunch::sync().encode_to_vec(), [8, 172, 2]);
        assert_eq!(HolePunch::decode(&bytes[..]).unwrap().addresses(), [address]);
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        let mut message = HolePunch::connect(&["/ip4/1.2.3.4/tcp/5".parse().unwrap()], None);
        message.obs_addrs.insert(0, vec![0xff; 9]);
        assert_eq!(message.addresses().len(), 1);
    }
}
