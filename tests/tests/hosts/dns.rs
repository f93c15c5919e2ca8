//! A name server that knows a few names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;
use punchline_tests::lab::Namespace;

/// A relay's name; `_dnsaddr.` before it leads to its TXT record.
pub(crate) const NAME: &str = "relay.example";
pub(crate) const TEXT_NAME: &str = "_dnsaddr.relay.example";

/// One thing that a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Address(IpAddr),
    Text(String),
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => A,
            Self::Address(IpAddr::V6(_)) => AAAA,
            Self::Text(_) => TXT,
        }
    }

    fn data(&self) -> Option<Vec<u8>> {
        match self {
            Self::Address(IpAddr::V4(ip)) => Some(ip.octets().to_vec()),
            Self::Address(IpAddr::V6(ip)) => Some(ip.octets().to_vec()),
            Self::Text(text) => Some([&[u8::try_from(text.len()).ok()?], text.as_bytes()].concat()),
        }
    }
}

type Records = Vec<(&'static str, Record)>;

/// What a running name server knows.
pub(crate) struct Zone(Arc<Mutex<Records>>);

impl Zone {
    /// It knows this from now on, and nothing else.
    pub(crate) fn set(&self, records: Records) {
        *self.0.lock().unwrap() = records;
    }
}

/// Answers on port 53 of `machine`, until the lab ends.
pub(crate) fn serve(machine: &Namespace, records: Records) -> Result<Zone> {
    let any = match machine.address_v6() {
        Some(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        None => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = machine.within(|| UdpSocket::bind((any, 53)))??;
    let known = Arc::new(Mutex::new(records));
    let zone = Zone(known.clone());
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            let answer = answer(&buffer[..length], &known.lock().unwrap());
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, asker);
            }
        }
    });
    Ok(zone)
}

/// The reply to a query with one question (RFC 1035, section 4).
fn answer(query: &[u8], zone: &[(&str, Record)]) -> Option<Vec<u8>> {
    let (mut at, mut name) = (HEADER, Vec::new());
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        name.push(String::from_utf8_lossy(query.get(at + 1..=at + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(HEADER..at + 5)?;
    let name = name.join(".");
    let of_name: Vec<_> = zone.iter().filter(|(named, _)| *named == name).collect();
    let found = of_name.iter().filter(|(_, record)| record.kind() == kind);
    let found: Vec<Vec<u8>> = found.filter_map(|(_, record)| record.data()).collect();
    let known = !of_name.is_empty();
    let mut reply = query[..2].to_vec();
    // A response, recursion available, no error or no such name; one question, some answers.
    let answers = u8::try_from(found.len()).ok()?;
    reply.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(question);
    for data in found {
        // The name of the question, its kind, class IN, no time to live.
        reply.extend([0xc0, 0x0c]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0]);
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

const HEADER: usize = 12;
const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
