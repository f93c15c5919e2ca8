//! A name server that knows one name.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use anyhow::Result;
use punchline_tests::lab::Namespace;

/// The name it knows; `_dnsaddr.` before it leads to its TXT record.
pub(crate) const NAME: &str = "relay.example";

/// Answers on port 53 of `machine`, until the lab ends.
pub(crate) fn serve(machine: &Namespace, address: Ipv4Addr, text: String) -> Result<()> {
    let socket = machine.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)))??;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length], address, &text) {
                let _ = socket.send_to(&answer, asker);
            }
        }
    });
    Ok(())
}

/// The reply to a query with one question (RFC 1035, section 4).
fn answer(query: &[u8], address: Ipv4Addr, text: &str) -> Option<Vec<u8>> {
    let (mut at, mut name) = (HEADER, Vec::new());
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        name.push(String::from_utf8_lossy(query.get(at + 1..=at + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(HEADER..at + 5)?;
    let (name, text_name) = (name.join("."), format!("_dnsaddr.{NAME}"));
    let data = match kind {
        A if name == NAME => Some(address.octets().to_vec()),
        TXT if name == text_name => Some([&[u8::try_from(text.len()).ok()?], text.as_bytes()].concat()),
        _ => None,
    };
    let known = name == NAME || name == text_name;
    let mut reply = query[..2].to_vec();
    // A response, recursion available, no error or no such name; one question, no or one answer.
    reply.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(data) = data {
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
