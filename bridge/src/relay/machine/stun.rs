//! What a relay answers to those who ask it by STUN where they come from.
//!
//! Addresses can be forged here, so an answer is small, goes to nobody but who is said to have asked, and only so many
//! go to one address, to one network, and out in all.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::rates::{Allowance, Rates};
use crate::{
    addr::place::Place,
    nat::AnswerFrom,
    net::stun::message::{Body, Message},
};

/// Answers to one IPv4 address or IPv6 /64: a node asks a dozen times an hour, and an office or a carrier's NAT is one
/// address.
const OF_HOST: Allowance = Allowance { burst: 128, interval: Duration::from_millis(50) };

/// To a /24 or /48.
const OF_NETWORK: Allowance = Allowance { burst: 512, interval: Duration::from_micros(12_500) };

/// In all: at 68 bytes each less than 140 kB a second.
const OF_ALL: Allowance = Allowance { burst: 2000, interval: Duration::from_micros(500) };

/// Where this relay answers STUN, for each family of addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::relay) struct StunPorts {
    pub(in crate::relay) v4: Option<u16>,
    pub(in crate::relay) v6: Option<u16>,
}

impl StunPorts {
    /// The port for who comes from there.
    pub(super) fn of(self, place: Place) -> Option<u16> {
        if place.host.addr().is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Arrived<'a> {
    pub(in crate::relay) datagram: &'a [u8],
    pub(in crate::relay) from: SocketAddr,
    /// The other port of the same address, if this relay has one.
    pub(in crate::relay) other: Option<SocketAddr>,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Answer {
    pub(in crate::relay) bytes: Vec<u8>,
    /// From the port that the datagram arrived at, or from the other one.
    pub(in crate::relay) from_other_port: bool,
}

/// How much has been answered lately.
#[derive(Debug)]
pub(in crate::relay) struct Answers {
    of_host: Rates<IpNet>,
    of_network: Rates<IpNet>,
    of_all: Rates<()>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            of_host: Rates::new(OF_HOST),
            of_network: Rates::new(OF_NETWORK),
            of_all: Rates::new(OF_ALL),
        }
    }
}

impl Answers {
    /// None: nothing is answered.
    pub(in crate::relay) fn answer(&mut self, arrived: Arrived<'_>, now: Instant) -> Option<Answer> {
        let Arrived { datagram, from, other } = arrived;
        let Message { transaction, body: Body::Request { answer_from, mut unknown } } =
            Message::read(datagram)?
        else {
            return None;
        };
        if !is_somebody(from) || !self.admit(Place::of(from.ip()), now) {
            return None;
        }
        let from_other_port = match (answer_from, other) {
            (AnswerFrom::Here, _) => false,
            (AnswerFrom::OtherPort, Some(_)) => true,
            // This relay knows of one address only.
            (AnswerFrom::OtherPort, None) | (AnswerFrom::OtherAddress, _) => {
                unknown.insert(0, Message::change_request());
                false
            }
        };
        let bytes = match unknown.as_slice() {
            [] => {
                let mapped = SocketAddr::new(from.ip().to_canonical(), from.port());
                Message { transaction, body: Body::Success { mapped, other } }.write()
            }
            unknown => Message::refusal(transaction, unknown),
        };
        Some(Answer { bytes, from_other_port: from_other_port && unknown.is_empty() })
    }

    /// All limits are asked before anything is charged.
    fn admit(&mut self, place: Place, now: Instant) -> bool {
        let Place { host, network } = place;
        let free = self.of_host.check(host, now).is_ok()
            && self.of_network.check(network, now).is_ok()
            && self.of_all.check((), now).is_ok();
        if free {
            self.of_host.charge(host, now);
            self.of_network.charge(network, now);
            self.of_all.charge((), now);
        }
        free
    }
}

/// Nobody asks from there; whoever forges such an address wants others to be bothered.
fn is_somebody(from: SocketAddr) -> bool {
    let broadcast = matches!(from.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    from.port() != 0 && !broadcast && !from.ip().is_unspecified() && !from.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::stun::message::ANSWER_BYTES_MAX;

    const OTHER: &str = "203.0.113.7:3479";

    fn request(answer_from: AnswerFrom) -> Vec<u8> {
        Message { transaction: [7; 12], body: Body::Request { answer_from, unknown: Vec::new() } }
            .write()
    }

    fn ask(answers: &mut Answers, datagram: &[u8], from: &str, now: Instant) -> Option<Answer> {
        let (from, other) = (from.parse().unwrap(), OTHER.parse().ok());
        answers.answer(Arrived { datagram, from, other }, now)
    }

    fn body(answer: &Answer) -> Body {
        Message::read(&answer.bytes).unwrap().body
    }

    #[test]
    fn who_asks_is_told_where_it_comes_from_by_the_port_that_it_wants() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let me = "198.51.100.4:35000";
        for (from, from_other_port) in [(AnswerFrom::Here, false), (AnswerFrom::OtherPort, true)] {
            let answer = ask(&mut answers, &request(from), me, now).unwrap();
            let seen = Body::Success { mapped: me.parse().unwrap(), other: OTHER.parse().ok() };
            assert_eq!((body(&answer), answer.from_other_port), (seen, from_other_port));
        }
    }

    #[test]
    fn who_asks_for_what_the_relay_has_not_is_refused_from_where_it_asked() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let answer =
            ask(&mut answers, &request(AnswerFrom::OtherAddress), "198.51.100.4:1", now).unwrap();
        assert_eq!((body(&answer), answer.from_other_port), (Body::Error, false));
        let from = "198.51.100.4:1".parse().unwrap();
        let datagram = &request(AnswerFrom::OtherPort)[..];
        let answer = answers.answer(Arrived { datagram, from, other: None }, now).unwrap();
        assert_eq!(body(&answer), Body::Error, "there is no other port");
        // The length, then an attribute of an authenticated request.
        let mut wants_more = request(AnswerFrom::OtherPort);
        wants_more.extend([0, 6, 0, 4, b'm', b'e', b'm', b'e']);
        wants_more[3] += 8;
        let answer = ask(&mut answers, &wants_more, "198.51.100.4:1", now).unwrap();
        assert_eq!((body(&answer), answer.from_other_port), (Body::Error, false));
    }

    #[test]
    fn only_a_binding_request_of_somebody_is_answered() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let success = Body::Success { mapped: OTHER.parse().unwrap(), other: None };
        let answer = Message { transaction: [7; 12], body: success }.write();
        let error = Message { transaction: [7; 12], body: Body::Error }.write();
        for datagram in [&[][..], b"GET / HTTP/1.0\r\n\r\n", &[0; 20], &answer, &error] {
            assert_eq!(ask(&mut answers, datagram, "198.51.100.4:1", now), None, "{datagram:?}");
        }
        for nobody in ["198.51.100.4:0", "0.0.0.0:9", "255.255.255.255:9", "224.0.0.1:9", "[ff02::1]:9"]
        {
            assert_eq!(ask(&mut answers, &request(AnswerFrom::Here), nobody, now), None, "{nobody}");
        }
    }

    /// Answered of so many questions, each from where `from` says.
    fn answered(answers: &mut Answers, count: u32, from: impl Fn(u32) -> String, now: Instant) -> usize {
        let question = request(AnswerFrom::Here);
        let asked = (0..count).filter_map(|at| ask(answers, &question, &from(at), now));
        asked.inspect(|answer| assert!(answer.bytes.len() <= ANSWER_BYTES_MAX)).count()
    }

    #[test]
    fn one_address_a_network_and_all_together_are_answered_only_so_often() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let host = |at: u32| format!("198.51.100.4:{}", 1 + at);
        assert_eq!(answered(&mut answers, 10_000, host, now), OF_HOST.burst as usize);
        let soon = now + OF_HOST.interval * 10;
        assert_eq!(answered(&mut answers, 10_000, host, soon), 10, "and then at a pace");
        let mut answers = Answers::default();
        let network = |at: u32| format!("198.51.100.{}:9", 1 + at % 250);
        assert_eq!(answered(&mut answers, 10_000, network, now), OF_NETWORK.burst as usize);
        let mut answers = Answers::default();
        let anywhere = |at: u32| format!("10.{}.{}.4:9", at / 200, at % 200);
        assert_eq!(answered(&mut answers, 10_000, anywhere, now), OF_ALL.burst as usize);
        let v6 = |at: u32| format!("[2a00::{at:x}]:9");
        assert_eq!(answered(&mut Answers::default(), 10_000, v6, now), OF_HOST.burst as usize, "a /64");
    }

    #[test]
    fn who_is_refused_for_its_own_sake_uses_up_nothing_of_others() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answered(&mut answers, 100_000, |_| "198.51.100.4:9".to_owned(), now);
        assert!(ask(&mut answers, &request(AnswerFrom::Here), "198.51.100.5:9", now).is_some());
    }
}
