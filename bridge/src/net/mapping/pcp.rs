//! The messages of PCP that open a pinhole: MAP for our own IPv6 address, without options (RFC 6887). Pure.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use bytes::{Buf, BufMut};

/// Where a router listens.
pub(super) const PORT: u16 = 5351;

/// No message is longer.
pub(super) const MESSAGE_MAX: usize = 1100;

/// Of a request, and of an answer without options.
const LENGTH: usize = 60;

const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANSWER: u8 = 0x80;

/// Has packets to a port of ours let in; known to the router by its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) ours: Ipv6Addr,
    pub(super) port: u16,
    /// By its number in IP packets.
    pub(super) protocol: u8,
    pub(super) nonce: [u8; 12],
}

/// What a router answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 if it did what it was asked.
    pub(super) result: u8,
    pub(super) lasts: Duration,
    /// Where packets to our port are let in.
    pub(super) external: SocketAddrV6,
}

impl Map {
    /// Asks for so long; with 0 seconds, that it ends.
    pub(super) fn request(&self, seconds: u32) -> [u8; LENGTH] {
        let (external, at) = match seconds {
            // As the RFC wants it.
            0 => (Ipv6Addr::UNSPECIFIED, 0),
            _ => (self.ours, self.port),
        };
        let mut request = [0; LENGTH];
        let mut fields = &mut request[..];
        fields.put_slice(&[VERSION, MAP, 0, 0]);
        fields.put_u32(seconds);
        fields.put_slice(&self.ours.octets());
        fields.put_slice(&self.nonce);
        fields.put_slice(&[self.protocol, 0, 0, 0]);
        fields.put_u16(self.port);
        fields.put_u16(at);
        fields.put_slice(&external.octets());
        request
    }

    /// What a datagram answers to this; none if it is no such answer.
    pub(super) fn answer(&self, datagram: &[u8]) -> Option<Answer> {
        let mut fields = &datagram.first_chunk::<LENGTH>()?[..];
        let (version, opcode) = (fields.get_u8(), fields.get_u8());
        fields.advance(1);
        let result = fields.get_u8();
        let lasts = Duration::from_secs(fields.get_u32().into());
        // How long the router is up: it is asked again soon enough.
        fields.advance(4 + 12);
        let mut nonce = [0; 12];
        fields.copy_to_slice(&mut nonce);
        let protocol = fields.get_u8();
        fields.advance(3);
        let (port, at) = (fields.get_u16(), fields.get_u16());
        let external = SocketAddrV6::new(fields.get_u128().into(), at, 0, 0);
        let of_this = (version, opcode) == (VERSION, ANSWER | MAP)
            && (nonce, protocol, port) == (self.nonce, self.protocol, self.port);
        of_this.then_some(Answer { result, lasts, external })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What miniupnpd 2.3.1 was asked.
    const MAP_OF_TCP: Map = Map {
        ours: Ipv6Addr::new(0x2600, 0, 0, 1, 0, 0, 0, 2),
        port: 4002,
        protocol: 6,
        nonce: *b"0123456789ab",
    };

    /// And what it answered.
    const GRANTED: &str = "0281000000000e1000000031000000000000000000000000303132333435363738396162060000000fa20fa226000000000000010000000000000002";
    const NOT_AUTHORIZED: &str = "028100020000000000000031000000000000000000000000303132333435363738396162060000000fa2000026000000000000010000000000000002";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_request_is_as_rfc_6887_draws_it() {
        let header = "02010000".to_owned() + "00000e10" + "26000000000000010000000000000002";
        let map = "303132333435363738396162".to_owned() + "06000000" + "0fa2" + "0fa2";
        let asked = header + &map + "26000000000000010000000000000002";
        assert_eq!(MAP_OF_TCP.request(3600)[..], bytes(&asked));
        let ended = MAP_OF_TCP.request(0);
        assert_eq!((&ended[4..8], &ended[42..]), (&[0; 4][..], &[0; 18][..]));
    }

    #[test]
    fn what_a_router_answered_is_understood() {
        let external = SocketAddrV6::new(MAP_OF_TCP.ours, 4002, 0, 0);
        let granted = Answer { result: 0, lasts: Duration::from_secs(3600), external };
        assert_eq!(MAP_OF_TCP.answer(&bytes(GRANTED)), Some(granted));
        let with_option = [bytes(GRANTED), vec![0; 8]].concat();
        assert_eq!(MAP_OF_TCP.answer(&with_option), Some(granted));
        assert_eq!(MAP_OF_TCP.answer(&bytes(NOT_AUTHORIZED)).unwrap().result, 2);
    }

    #[test]
    fn no_answer_to_another_request_counts_nor_a_part_of_one() {
        let granted = bytes(GRANTED);
        for length in 0..granted.len() {
            assert_eq!(MAP_OF_TCP.answer(&granted[..length]), None, "{length}");
        }
        // Version, opcode, nonce, protocol, port of ours.
        for at in [0, 1, 24, 35, 36, 40, 41] {
            let mut other = granted.clone();
            other[at] ^= 1;
            assert_eq!(MAP_OF_TCP.answer(&other), None, "{at}");
        }
        assert_eq!(MAP_OF_TCP.answer(&MAP_OF_TCP.request(3600)), None, "our own words");
    }
}
