use data_encoding::BASE64URL_NOPAD;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::RelayLocator;

use super::super::{
    AddressFault, CapabilityError, IssueError, Routes, Terms, Ticket, TicketError,
    ticket::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, CHECKSUM_BYTES, PREFIX, TEXT_BYTES_MAX, checksum},
};
use super::{NOW, key, routes, terms};

fn ticket() -> Ticket {
    Ticket::issue(terms(true), routes(), &key(7)).unwrap()
}

/// What a ticket's string encodes, less the checksum.
fn bytes(ticket: &Ticket) -> Vec<u8> {
    let text = ticket.to_string();
    let mut bytes = BASE64URL_NOPAD.decode(text.strip_prefix(PREFIX).unwrap().as_bytes()).unwrap();
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    bytes
}

/// Reads bytes as a ticket, with the right checksum.
fn read(bytes: &[u8]) -> Result<Ticket, TicketError> {
    let bytes = [bytes, &checksum(bytes)].concat();
    format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)).parse()
}

/// An address of exactly this many bytes.
fn address(length: usize) -> Multiaddr {
    let of = |name: usize| {
        Multiaddr::empty().with(Protocol::Dns4("a".repeat(name).into())).with(Protocol::Tcp(1))
    };
    (0..=length).map(of).find(|address| address.len() == length).unwrap()
}

fn relay(length: usize) -> RelayLocator {
    RelayLocator::new(address(length - 41).with(Protocol::P2p(key(9).public().to_peer_id()))).unwrap()
}

#[test]
fn a_ticket_says_everything_and_survives_being_a_string() {
    let terms = terms(true);
    let ticket = Ticket::issue(terms.clone(), routes(), &key(7)).unwrap();
    let read: Ticket = format!(" \n{ticket}\r\n").parse().unwrap();
    assert_eq!(read, ticket);
    assert_eq!(read.peer(), key(7).public().to_peer_id());
    assert_eq!((read.id(), read.service(), read.once()), (terms.id, &terms.service, true));
    assert_eq!(read.expires().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), NOW + 10);
    assert_eq!((read.relays(), read.addrs()), (&routes().relays[..], &routes().addrs[..]));
    assert!(ticket.to_string().bytes().all(|b| b.is_ascii_alphanumeric() || b":-_".contains(&b)));
}

#[test]
fn the_document_shows_a_ticket_as_it_is_made() {
    let id = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    let terms = Terms { id, ..terms(true) };
    let text = Ticket::issue(terms, routes(), &key(7)).unwrap().to_string();
    let document = include_str!("../../../../design/tickets.md");
    assert!(document.lines().any(|line| line.trim() == text), "not in design/tickets.md: {text}");
}

#[test]
fn no_single_character_can_be_changed_or_left_out() {
    let text = ticket().to_string();
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        let (old, after) = after.split_at(1);
        for new in ["", "A", "z", "=", "+", " ", "é"].into_iter().filter(|new| *new != old) {
            let bad = format!("{before}{new}{after}");
            assert!(bad.parse::<Ticket>().is_err(), "{bad}");
        }
        assert!(before.parse::<Ticket>().is_err(), "{before}");
    }
}

#[test]
fn whoever_mends_the_checksum_can_change_addresses_and_nothing_else() {
    let ticket = ticket();
    let good = bytes(&ticket);
    let signed = ticket.proof().len() * 8;
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        match read(&bad) {
            Ok(other) => {
                assert!(at >= signed, "bit {at} is signed");
                assert_eq!(other.proof(), ticket.proof());
                assert_eq!(other.peer(), ticket.peer());
            }
            Err(error) => assert_ne!(error, TicketError::Checksum),
        }
    }
}

#[test]
fn nothing_may_be_missing_or_follow() {
    let good = bytes(&ticket());
    for length in 0..good.len() {
        let error = read(&good[..length]).unwrap_err();
        assert_eq!(error, TicketError::Capability(CapabilityError::Truncated), "{length}");
    }
    let error = read(&[&good[..], &[0]].concat()).unwrap_err();
    assert_eq!(error, TicketError::Capability(CapabilityError::Trailing { bytes: 1 }));
}

#[test]
fn what_is_no_ticket_says_what_one_is_like() {
    let oversized = format!("{PREFIX}{}", "A".repeat(TEXT_BYTES_MAX));
    for (text, hint) in [
        ("", "begins with `punchline-ticket:`"),
        ("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp", "begins with"),
        ("Punchline-Ticket:AAAA", "begins with"),
        ("punchline-ticket:", "ends too early"),
        ("punchline-ticket:AAAAAAAA", "wrong checksum"),
        ("punchline-ticket:A", "damaged (its end is missing)"),
        ("punchline-ticket:AAAA AAAA", "damaged (` ` at its letter 22 belongs in no ticket)"),
        ("punchline-ticket:AA==", "damaged (`=` at its letter 20"),
        (&oversized, "none has more than"),
    ] {
        let error = text.parse::<Ticket>().unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn random_bytes_and_random_texts_are_no_ticket_and_break_nothing() {
    let good = bytes(&ticket());
    let proof = ticket().proof().len();
    for length in 0..3_000 {
        let noise: Vec<u8> = (0..length % 400).map(|_| rand::random()).collect();
        assert!(read(&noise).is_err());
        // The signature holds, so that lists of addresses are reached.
        if let Ok(ticket) = read(&[&good[..proof], &noise].concat()) {
            assert!(ticket.relays().len() + ticket.addrs().len() <= 2 * ADDRESSES_MAX);
        }
        let text = String::from_utf8_lossy(&noise);
        assert!(text.parse::<Ticket>().is_err());
        assert!(format!("{PREFIX}{text}").parse::<Ticket>().is_err());
    }
}

#[test]
fn the_largest_ticket_fits_and_one_step_more_does_not() {
    let full = Routes {
        relays: vec![relay(ADDRESS_BYTES_MAX); ADDRESSES_MAX],
        addrs: vec![address(ADDRESS_BYTES_MAX); ADDRESSES_MAX],
    };
    let issue = |routes: &Routes| {
        let service = "a".repeat(64).parse().unwrap();
        Ticket::issue(Terms { service, ..terms(true) }, routes.clone(), &key(7))
    };
    let text = issue(&full).unwrap().to_string();
    assert_eq!(text.len(), 11_240);
    assert!(text.len() <= TEXT_BYTES_MAX);
    assert!(text.parse::<Ticket>().is_ok());

    let mut many = full.clone();
    many.addrs.push(address(20));
    assert!(matches!(issue(&many), Err(IssueError::TooMany { what: "addresses", count: 9 })));
    let mut many = full.clone();
    many.relays.push(relay(100));
    assert!(matches!(issue(&many), Err(IssueError::TooMany { what: "relays", count: 9 })));
    let long = Routes { addrs: vec![address(ADDRESS_BYTES_MAX + 1)], ..Routes::default() };
    assert!(matches!(issue(&long), Err(IssueError::Address { reason: AddressFault::Length, .. })));
    let long = Routes { relays: vec![relay(ADDRESS_BYTES_MAX + 1)], ..Routes::default() };
    assert!(matches!(issue(&long), Err(IssueError::Address { reason: AddressFault::Length, .. })));
}

#[test]
fn limits_hold_for_what_others_made_too() {
    let proof = ticket().proof().to_vec();
    let many = [&proof[..], &[9]].concat();
    assert_eq!(read(&many), Err(TicketError::TooMany { count: 9 }));
    let list = |address: &Multiaddr| {
        let length = (address.len() as u16).to_be_bytes();
        [&[1][..], &length, address.as_ref()].concat()
    };
    let long = [&proof[..], &[0], &list(&address(ADDRESS_BYTES_MAX + 1))].concat();
    assert!(matches!(read(&long), Err(TicketError::Address { reason: AddressFault::Length, .. })));
    let elsewhere = address(20).with(Protocol::P2p(PeerId::random()));
    let elsewhere = [&proof[..], &[0], &list(&elsewhere)].concat();
    let error = read(&elsewhere).unwrap_err();
    assert!(matches!(error, TicketError::Address { reason: AddressFault::Elsewhere { .. }, .. }));
    let no_relay = [&proof[..], &list(&address(20)), &[0]].concat();
    assert!(matches!(read(&no_relay), Err(TicketError::Relay(_))));
    let malformed = [&proof[..], &[1, 0, 1, 0xff, 0]].concat();
    assert_eq!(read(&malformed), Err(TicketError::Malformed));
    assert_eq!(read(&[&proof[..], &[0, 0]].concat()), Err(TicketError::Nowhere));
}

#[test]
fn addresses_that_lead_nowhere_are_refused_and_the_own_peer_id_is_left_out() {
    let issue = |text: &str| {
        let addrs = vec![text.parse().unwrap()];
        Ticket::issue(terms(false), Routes { addrs, ..Routes::default() }, &key(7))
    };
    let own = key(7).public().to_peer_id();
    let ticket = issue(&format!("/ip4/198.51.100.9/tcp/4001/p2p/{own}")).unwrap();
    assert_eq!(ticket.addrs(), ["/ip4/198.51.100.9/tcp/4001".parse().unwrap()]);
    let other = key(9).public().to_peer_id();
    for (text, hint) in [
        (format!("/ip4/198.51.100.9/tcp/4001/p2p/{other}"), "leads to"),
        (format!("/ip4/198.51.100.9/tcp/4001/p2p/{other}/p2p-circuit/p2p/{own}"), "--relay"),
        ("/ip4/0.0.0.0/tcp/4001".to_owned(), "cannot be dialled"),
        ("/ip6/::/udp/4001/quic-v1".to_owned(), "cannot be dialled"),
        ("/ip4/198.51.100.9/tcp/0".to_owned(), "cannot be dialled"),
        ("/ip4/198.51.100.9".to_owned(), "cannot be dialled"),
        ("/memory/5".to_owned(), "cannot be dialled"),
    ] {
        let error = issue(&text).unwrap_err().to_string();
        assert!(error.contains(hint) && error.contains(&text), "{error}");
    }
    let nowhere = Ticket::issue(terms(false), Routes::default(), &key(7)).unwrap_err().to_string();
    assert!(nowhere.contains("--relay") && nowhere.contains("--addr"), "{nowhere}");
}

#[test]
fn a_ticket_in_a_log_does_not_give_its_secret_away() {
    let ticket = ticket();
    let shown = format!("{ticket:?}");
    let secret = &ticket.proof()[ticket.proof().len() - 64..];
    assert!(
        shown.contains("kaspad")
            && !shown.contains(&format!("{}, {}, {}", secret[0], secret[1], secret[2]))
    );
    assert!(!shown.contains(&ticket.to_string()[PREFIX.len()..][..20]));
}
