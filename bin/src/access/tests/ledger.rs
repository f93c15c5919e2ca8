use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use super::super::{Book, BookError, ENTRIES_MAX, LedgerError, Terms, TicketId, ledger::BYTES_MAX};
use super::{NOW, Node, terms};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_ledger_and_its_lock_are_their_owner_s_alone_and_no_draft_is_left() {
    let node = Node::new();
    assert_eq!(node.ledger().read().unwrap(), Book::default(), "none yet");
    node.ticket(true);
    node.ticket(false);
    assert_eq!(mode(&node.path("tickets")), 0o600);
    assert_eq!(mode(&node.path("tickets.lock")), 0o600);
    assert_eq!(fs::read_dir(node.directory.path()).unwrap().count(), 2);
    assert_eq!(node.ledger().read().unwrap().entries().len(), 2);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let node = Node::new();
    node.ledger().change(|_| ()).unwrap();
    assert!(!node.path("tickets").exists());
}

#[test]
fn a_ledger_that_others_may_use_is_refused_with_the_command_that_mends_it() {
    let node = Node::new();
    let ticket = node.ticket(true);
    for mode in [0o640, 0o604, 0o602, 0o660, 0o666] {
        fs::set_permissions(node.path("tickets"), Permissions::from_mode(mode)).unwrap();
        for error in [
            node.ledger().read().unwrap_err(),
            node.ledger().change(|book| book.revoke(&[ticket.id()], NOW)).unwrap_err(),
        ] {
            let wanted = format!("chmod 600 {}", node.path("tickets").display());
            assert!(error.to_string().contains(&wanted), "{error}");
        }
    }
    fs::set_permissions(node.path("tickets"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(node.ledger().read().unwrap().entry(ticket.id()).unwrap().revoked, None);
}

#[test]
fn a_damaged_ledger_is_refused_and_kept_and_nothing_is_forgotten() {
    let node = Node::new();
    let ticket = node.ticket(true);
    node.revoke(ticket.id());
    let good = fs::read_to_string(node.path("tickets")).unwrap();
    let entry = good.split_once('[').unwrap().1.rsplit_once(']').unwrap().0.to_owned();
    for (bad, hint) in [
        (String::new(), "damaged"),
        ("null".to_owned(), "damaged"),
        ("{}".to_owned(), "damaged"),
        (good[..good.len() / 2].to_owned(), "damaged"),
        (format!("{good}{good}"), "damaged"),
        (good.replace("\"revoked\"", "\"revokd\""), "revokd"),
        (good.replace("kaspad", "kas pad"), "not allowed in a service name"),
        (good.replace(&ticket.id().to_string(), "00"), "32 hexadecimal digits"),
        (good.replace("\"version\": 1", "\"version\": 2"), "version is 2"),
        (good.replace(&entry, &format!("{entry},{entry}")), "twice"),
        (" ".repeat(BYTES_MAX as usize + 1), "which no ledger has"),
    ] {
        assert_ne!(bad, good);
        fs::write(node.path("tickets"), &bad).unwrap();
        let error = node.ledger().read().unwrap_err().to_string();
        assert!(error.contains(hint) && error.contains("move it away"), "{error}");
        assert!(error.contains(&node.path("tickets").display().to_string()), "{error}");
        assert!(node.ledger().change(|book| book.issue(&terms(true), NOW)).is_err());
        assert_eq!(fs::read_to_string(node.path("tickets")).unwrap(), bad, "it is kept");
    }
}

#[test]
fn a_ledger_of_random_bytes_breaks_nothing() {
    let node = Node::new();
    node.ticket(true);
    let good = fs::read(node.path("tickets")).unwrap();
    for _ in 0..100 {
        let mut bad = good.clone();
        for _ in 0..4 {
            let at = rand::random_range(0..bad.len());
            bad[at] = rand::random();
        }
        fs::write(node.path("tickets"), &bad).unwrap();
        let _ = node.ledger().read().map(|book| assert_eq!(book.entries().len(), 1));
        let noise: Vec<u8> = (0..rand::random_range(0..500)).map(|_| rand::random()).collect();
        fs::write(node.path("tickets"), &noise).unwrap();
        assert!(node.ledger().read().is_err(), "{noise:?}");
    }
}

#[test]
fn a_directory_is_no_ledger_and_neither_is_a_place_that_is_not_there() {
    let node = Node::new();
    fs::create_dir(node.path("tickets")).unwrap();
    assert!(matches!(node.ledger().read(), Err(LedgerError::NotAFile { .. })));
    let ledger = super::Ledger::at(node.path("no/such/tickets"));
    assert_eq!(ledger.read().unwrap(), Book::default());
    assert!(matches!(ledger.change(|_| ()), Err(LedgerError::Io { .. })));
}

#[test]
fn a_full_ledger_is_far_smaller_than_one_that_is_refused() {
    let node = Node::new();
    let service: punchline_bridge::Service = "a".repeat(64).parse().unwrap();
    let fill = |book: &mut Book| {
        for _ in 0..ENTRIES_MAX {
            let terms = Terms { service: service.clone(), ..terms(true) };
            book.issue(&terms, NOW).unwrap();
            book.burn(terms.id, node.peer(), NOW).unwrap();
        }
        let all: Vec<TicketId> = book.entries().iter().map(|entry| entry.id).collect();
        book.revoke(&all, NOW).unwrap();
    };
    node.ledger().change(fill).unwrap();
    assert!(fs::metadata(node.path("tickets")).unwrap().len() < BYTES_MAX / 2);
    assert_eq!(node.ledger().read().unwrap().entries().len(), ENTRIES_MAX);
    let one_more = node.ledger().change(|book| book.issue(&terms(true), NOW)).unwrap();
    assert_eq!(one_more, Err(BookError::Full));
    let mut text: serde_json::Value =
        serde_json::from_slice(&fs::read(node.path("tickets")).unwrap()).unwrap();
    let tickets = text["tickets"].as_array_mut().unwrap();
    let mut extra = tickets[0].clone();
    extra["id"] = TicketId::random().to_string().into();
    tickets.push(extra);
    fs::write(node.path("tickets"), text.to_string()).unwrap();
    assert!(node.ledger().read().unwrap_err().to_string().contains("holds 1025 tickets"));
}

#[test]
fn changes_made_at_once_are_all_kept() {
    let node = Node::new();
    let issue = || (0..10).for_each(|_| drop(node.ticket(false)));
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(issue))));
    assert_eq!(node.ledger().read().unwrap().entries().len(), 40);
}

#[test]
fn a_lock_that_is_not_let_go_of_is_waited_for_and_then_told() {
    let node = Node::new();
    let held = node.ledger().lock(Duration::ZERO).unwrap();
    let error = node.ledger().lock(Duration::from_millis(20)).unwrap_err();
    assert!(error.to_string().contains("tickets.lock"), "{error}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.ticket(true));
        drop(held);
        waiting.join().unwrap();
    });
    assert_eq!(node.ledger().read().unwrap().entries().len(), 1);
}

#[test]
fn the_document_shows_a_ledger_as_it_is_written() {
    let document = include_str!("../../../../design/tickets.md");
    let shown: Vec<&str> = document
        .lines()
        .skip_while(|line| *line != "    {")
        .take_while(|line| line.starts_with("    "))
        .collect();
    let book: Book = serde_json::from_str(&shown.join("\n")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown.join("\n")).unwrap();
    assert_eq!(serde_json::to_value(&book).unwrap(), shown);
    assert!(book.check().is_ok() && book.entries().len() == 1);
}
