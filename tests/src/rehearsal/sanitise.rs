//! Takes out of a text what tells where somebody lives: addresses become names, ids of peers too or short.

use std::net::Ipv4Addr;

/// What stands for what.
#[derive(Debug)]
pub(super) struct Sanitiser {
    addresses: Vec<(Ipv4Addr, &'static str)>,
    /// Id, and what stands for it.
    peers: Vec<(String, String)>,
}

impl Sanitiser {
    pub(super) fn new(addresses: &[(Ipv4Addr, &'static str)], peers: Vec<(String, String)>) -> Self {
        Self { addresses: addresses.to_vec(), peers }
    }

    /// `text` without addresses, but for those of every machine (unspecified, loopback).
    pub(super) fn clean(&self, text: &str) -> String {
        let text = replace(text, |c| c.is_ascii_digit() || c == '.', |word| self.address(word));
        replace(&text, |c| c.is_ascii_alphanumeric(), |word| self.peer(word))
    }

    fn address(&self, word: &str) -> Option<String> {
        // Where an address ends a sentence, its dot is not part of it.
        let address: Ipv4Addr = word.trim_matches('.').parse().ok()?;
        if address.is_unspecified() || address.is_loopback() {
            return None;
        }
        let known = self.addresses.iter().find(|(known, _)| *known == address);
        let name = known.map_or("<OTHER_IP>", |(_, name)| name);
        Some(word.replace(&address.to_string(), name))
    }

    fn peer(&self, word: &str) -> Option<String> {
        if !word.starts_with(PEER_START) || word.len() < PEER_LENGTH {
            return None;
        }
        let known = self.peers.iter().find(|(id, _)| id == word);
        Some(known.map_or_else(
            || format!("{PEER_START}…{}", &word[word.len() - 6..]),
            |(_, name)| name.clone(),
        ))
    }
}

/// Puts something else in the place of words, which are as long as they can be.
fn replace(text: &str, is_of_word: fn(char) -> bool, other: impl Fn(&str) -> Option<String>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_of_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_of_word(c)).unwrap_or(from.len()));
        replaced.push_str(before);
        replaced.push_str(other(word).as_deref().unwrap_or(word));
        rest = after;
    }
    replaced + rest
}

/// Ids of Ed25519 keys.
const PEER_START: &str = "12D3KooW";
const PEER_LENGTH: usize = 52;

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    const OTHER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn clean(text: &str) -> String {
        let addresses = [(Ipv4Addr::new(198, 51, 100, 4), "<HOME_IP>")];
        let peers = vec![(PEER.to_owned(), "<SERVER_ID>".to_owned())];
        Sanitiser::new(&addresses, peers).clean(text)
    }

    #[test]
    fn addresses_become_names_wherever_they_stand() {
        let text = "/ip4/198.51.100.4/tcp/4001, 198.51.100.4:80, from 198.51.100.4.";
        assert_eq!(clean(text), "/ip4/<HOME_IP>/tcp/4001, <HOME_IP>:80, from <HOME_IP>.");
    }

    #[test]
    fn an_address_that_nobody_named_is_taken_out_too() {
        assert_eq!(clean("/ip4/203.0.113.9/tcp/1 10.0.0.1"), "/ip4/<OTHER_IP>/tcp/1 <OTHER_IP>");
    }

    #[test]
    fn what_is_the_same_on_every_machine_and_what_is_no_address_stays() {
        let text = r#"{"ts":"2026-11-21T04:28:05.055213Z","a":"/ip4/127.0.0.1/tcp/1 0.0.0.0","v":"/kaspad:2.1.0/","gap_ms":0.4}"#;
        assert_eq!(clean(text), text);
    }

    #[test]
    fn ids_become_names_or_short() {
        assert_eq!(clean(&format!("/p2p/{PEER}/x")), "/p2p/<SERVER_ID>/x");
        assert_eq!(clean(&format!("({OTHER})")), "(12D3KooW…x6nXTN)");
    }
}
