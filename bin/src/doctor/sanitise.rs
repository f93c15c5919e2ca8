//! Takes out of a bug report what tells who somebody is or where: each id, address and name becomes the same other word
//! wherever it stands, so that the report can still be followed.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};

/// What was taken out, said in the report itself.
pub(super) const EXPLANATION: &str = "peer ids are peer-1, peer-2 and so on, IP addresses that are not of every machine ip4-1 and ip6-1, \
     names of hosts host-1, of peers name-1, each the same throughout; (private) stands behind those of private networks; tickets and the \
     home directory are left out";

/// Keys whose values may hold the name of a host that nothing else marks as one.
const HOSTS: [&str; 2] = ["target", "local"];

/// Keys whose values are what the operator calls peers.
const NAMES: [&str; 2] = ["name", "relay_name"];

/// What every ticket begins with.
const TICKET: &str = "punchline-ticket:";

/// Where users have their homes: whoever runs this under `sudo` has another one than the node.
const HOMES: [&str; 2] = ["/home/", "/Users/"];

/// Letters of an IPv6 address with an IPv4 address in it, at most.
const ADDRESS_LETTERS_MAX: usize = 45;

/// Ids of Ed25519 keys, of older ones, and hashes of long ones are as long at least.
const PEER_LENGTH: usize = 46;

/// Each thing, and what stands for it.
#[derive(Debug, Default)]
pub(super) struct Sanitiser {
    words: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
    /// The user's home directory.
    home: Option<String>,
}

impl Sanitiser {
    pub(super) fn new(home: Option<String>) -> Self {
        Self { home: home.filter(|home| home.len() > 1), ..Self::default() }
    }

    /// Notes the names of hosts that stand in multiaddrs somewhere in `value`, so that they are known wherever they stand.
    pub(super) fn learn(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.learn_names(text),
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(name) if NAMES.contains(&key.as_str()) && !name.is_empty() => {
                            self.word(name, "name");
                        }
                        value => self.learn(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn learn_names(&mut self, text: &str) {
        for form in ["/dns/", "/dns4/", "/dns6/", "/dnsaddr/", "/sni/", "http://", "https://"] {
            for after in text.split(form).skip(1) {
                let name: String = after.chars().take_while(|c| is_of_name(*c)).collect();
                self.host(&name);
            }
        }
        // `proxy.example.org:3128`, wherever it stands.
        for word in text.split(|c| !is_of_name(c) && c != ':') {
            let place = word.trim_matches(':').split_once(':');
            if let Some((host, _)) = place.filter(|(host, port)| {
                let digits = port.split(':').next().unwrap_or_default();
                let last = host.rsplit('.').next().unwrap_or_default();
                host.contains('.')
                    && last.chars().any(char::is_alphabetic)
                    && digits.parse::<u16>().is_ok()
            }) {
                self.host(host);
            }
        }
    }

    /// A name of a host, if it is one. Letters of either case are the same name.
    fn host(&mut self, name: &str) {
        let name = name.trim_matches('.').to_lowercase();
        if !name.is_empty() && name != "localhost" && name.parse::<IpAddr>().is_err() {
            self.word(&name, "host");
        }
    }

    /// What stands for a name: that of a host that is known, or of one above or below it, which tells as much.
    fn known(&mut self, name: &str) -> Option<String> {
        if let Some(known) = self.words.get(name) {
            return Some(known.clone());
        }
        let lower = name.to_lowercase();
        if let Some(known) = self.words.get(&lower).filter(|known| known.starts_with("host-")) {
            return Some(known.clone());
        }
        if let Some(host) = lower.strip_prefix("_dnsaddr.") {
            return Some(format!("_dnsaddr.{}", self.known(host)?));
        }
        let below =
            |one: &str, other: &str| one.strip_suffix(other).is_some_and(|label| label.ends_with('.'));
        let mut hosts = self.words.iter().filter(|(_, word)| word.starts_with("host-"));
        let related = lower.contains('.')
            && hosts.any(|(host, _)| host.contains('.') && (below(host, &lower) || below(&lower, host)));
        related.then(|| self.word(&lower, "host"))
    }

    /// The same value with everything replaced.
    pub(super) fn clean(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.clean_text(text)),
            Value::Array(values) => values.iter().map(|value| self.clean(value)).collect(),
            Value::Object(fields) => {
                let mut clean = Map::new();
                for (key, value) in fields {
                    let value = match value {
                        Value::String(text) if HOSTS.contains(&key.as_str()) => {
                            Value::String(self.clean_target(text))
                        }
                        value => self.clean(value),
                    };
                    clean.insert(self.clean_text(key), value);
                }
                Value::Object(clean)
            }
            other => other.clone(),
        }
    }

    /// `HOST:PORT`, where the host may be any name.
    fn clean_target(&mut self, text: &str) -> String {
        match text.rsplit_once(':') {
            Some((host, _)) if host.chars().all(is_of_name) => self.host(host),
            _ => {}
        }
        self.clean_text(text)
    }

    pub(super) fn clean_text(&mut self, text: &str) -> String {
        let text = match &self.home {
            Some(home) => text.replace(home.as_str(), "~"),
            None => text.to_owned(),
        };
        let text = replace(&text, is_of_ticket, |word| {
            let at = word.find(TICKET)?;
            Some(format!("{}(a ticket)", word.get(..at)?))
        });
        let text = HOMES.iter().fold(text, |text, homes| without_owners(&text, homes));
        let text = replace(
            &text,
            |c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'),
            |word| Some(self.addresses(word)),
        );
        // A word that is known already is a name of a host.
        let text = replace(&text, is_of_name, |word| {
            let name = word.trim_matches('.');
            let known = self.known(name)?;
            Some(word.replace(name, &known))
        });
        replace(&text, |c| c.is_ascii_alphanumeric(), |word| self.peer(word))
    }

    /// A word with each address in it replaced, whatever it is glued to: the longest that begins at each letter.
    fn addresses(&mut self, word: &str) -> String {
        let (mut clean, mut rest) = (String::new(), word);
        while !rest.is_empty() {
            let longest = (1..=rest.len().min(ADDRESS_LETTERS_MAX)).rev().find_map(|end| {
                let text = rest.get(..end)?;
                Some((text, text.parse::<IpAddr>().ok()?))
            });
            let taken = match longest {
                Some((text, ip)) => {
                    clean.push_str(self.ip(ip).as_deref().unwrap_or(text));
                    text.len()
                }
                // It holds digits, colons and dots alone.
                None => {
                    clean.extend(rest.chars().next());
                    1
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        clean
    }

    /// None for an address of every machine.
    fn ip(&mut self, ip: IpAddr) -> Option<String> {
        if ip.is_unspecified() || ip.is_loopback() {
            return None;
        }
        let (kind, private) = match ip {
            IpAddr::V4(ip) => {
                let carrier = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
                ("ip4", ip.is_private() || ip.is_link_local() || carrier)
            }
            IpAddr::V6(ip) => ("ip6", ip.is_unique_local() || ip.is_unicast_link_local()),
        };
        let word = self.word(&ip.to_string(), kind);
        Some(if private { word + "(private)" } else { word })
    }

    fn peer(&mut self, word: &str) -> Option<String> {
        let is_id = word.len() >= PEER_LENGTH
            && (word.starts_with("12D3KooW") || word.starts_with("16Uiu2HA") || word.starts_with("Qm"));
        is_id.then(|| self.word(word, "peer"))
    }

    fn word(&mut self, thing: &str, kind: &'static str) -> String {
        if let Some(word) = self.words.get(thing) {
            return word.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let word = format!("{kind}-{count}");
        self.words.insert(thing.to_owned(), word.clone());
        word
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '.' | '_')
}

fn is_of_ticket(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '=')
}

/// Without the names of those whose homes these are.
fn without_owners(text: &str, homes: &str) -> String {
    let mut parts = text.split(homes);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let path = part.trim_start_matches(is_of_name);
        clean += &format!("{homes}(user){path}");
    }
    clean
}

/// Puts something else in the place of words, which are as long as they can be.
fn replace(
    text: &str,
    is_of_word: impl Fn(char) -> bool,
    mut other: impl FnMut(&str) -> Option<String>,
) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(&is_of_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_of_word(c)).unwrap_or(from.len()));
        replaced.push_str(before);
        replaced.push_str(other(word).as_deref().unwrap_or(word));
        rest = after;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    const OTHER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn sanitiser() -> Sanitiser {
        Sanitiser::new(Some("/home/ann".to_owned()))
    }

    #[test]
    fn one_thing_has_one_word_wherever_it_stands() {
        let mut sanitiser = sanitiser();
        let value = serde_json::json!({
            "a": format!("/ip4/198.51.100.4/tcp/4001/p2p/{PEER}"),
            "b": [format!("{OTHER} was wanted, and {PEER} answers"), "198.51.100.4:80 from 198.51.100.4."],
        });
        let clean = sanitiser.clean(&value);
        assert_eq!(clean["a"], "/ip4/ip4-1/tcp/4001/p2p/peer-1");
        assert_eq!(clean["b"][0], "peer-2 was wanted, and peer-1 answers");
        assert_eq!(clean["b"][1], "ip4-1:80 from ip4-1.");
    }

    #[test]
    fn private_addresses_say_so_and_those_of_every_machine_stay() {
        let mut sanitiser = sanitiser();
        for (text, clean) in [
            ("192.168.1.7 leads out", "ip4-1(private) leads out"),
            ("/ip6/2a00:1450::8/udp/1", "/ip6/ip6-1/udp/1"),
            ("[2a00:1450::8]:3478", "[ip6-1]:3478"),
            ("fd00::7, 100.64.3.3", "ip6-2(private), ip4-2(private)"),
            ("127.0.0.1:80 ::1 0.0.0.0 ::", "127.0.0.1:80 ::1 0.0.0.0 ::"),
            (
                "2026-11-21T04:28:05.055213Z 0.1.0 12:30:00 a: b",
                "2026-11-21T04:28:05.055213Z 0.1.0 12:30:00 a: b",
            ),
        ] {
            assert_eq!(sanitiser.clean_text(text), clean);
        }
    }

    #[test]
    fn nothing_hides_behind_what_it_is_glued_to_or_in_another_spelling() {
        let mut sanitiser = sanitiser();
        let value = serde_json::json!({
            "relay": "/dnsaddr/relay.acme.example/p2p-circuit",
            "found": "_dnsaddr.relay.acme.example has no record; Relay.ACME.example, eu.relay.acme.example nor acme.example",
            "proxy": "PROXY.corp.internal:3128 refuses, as http://squid/ does; proxy.corp.internal",
            "glued": "e:198.51.100.4 to:2a00:1450::8 or 198.51.100.4:443",
            "ticket": "PUNCHLINE_TICKET=punchline-ticket:AbC_d-123",
            "path": "/home/berta/.local/state and /Users/berta",
            "127.0.0.1:26111 for 198.51.100.4": true,
        });
        sanitiser.learn(&value);
        let text = sanitiser.clean(&value).to_string();
        for secret in ["acme", "ACME", "corp", "squid", "198.51", "2a00", "AbC_d-123", "berta"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(text.contains("e:ip4-1 to:ip6-1 or ip4-1:443"), "{text}");
        let host = sanitiser.words["relay.acme.example"].clone();
        assert!(text.contains(&format!("_dnsaddr.{host} has no record; {host}, ")), "{text}");
        assert!(text.contains("127.0.0.1:26111 for ip4-1"), "{text}");
    }

    #[test]
    fn names_of_hosts_tickets_and_the_home_are_taken_out() {
        let mut sanitiser = sanitiser();
        let value = serde_json::json!({
            "address": "/dns4/relay.ann.example/tcp/1",
            "target": "db.internal:5432",
            "cause": "relay.ann.example cannot be reached, nor db.internal.",
            "ticket": "use punchline-ticket:AbC_d-123 now",
            "path": "/home/ann/.local/state",
            "name": "berta",
            "said": "berta is direct",
        });
        sanitiser.learn(&value);
        let clean = sanitiser.clean(&value);
        let text = clean.to_string();
        for secret in ["ann.", "/ann", "berta", "internal", "AbC_d-123"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(clean["address"], "/dns4/host-1/tcp/1");
        assert_eq!(clean["ticket"], "use (a ticket) now");
        assert_eq!(clean["path"], "~/.local/state");
    }
}
