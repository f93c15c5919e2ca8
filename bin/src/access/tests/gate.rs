use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libp2p::PeerId;
use punchline_bridge::{Service, error::Refusal};

use super::super::{AccessError, Denial, Gate, Pass, Rules, Standing, Ticket};
use super::{NOW, Node, key, routes, terms};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn kaspad() -> Service {
    "kaspad".parse().unwrap()
}

fn alice() -> PeerId {
    key(100).public().to_peer_id()
}

fn bob() -> PeerId {
    key(101).public().to_peer_id()
}

/// Asks as `alice` for `kaspad`.
fn ask(gate: &Gate, ticket: &[u8]) -> Result<Pass, Denial> {
    gate.admit(alice(), &kaspad(), ticket, now())
}

fn only(allow: &[PeerId]) -> Rules {
    Rules { allow: allow.to_vec(), ..Rules::default() }
}

#[test]
fn without_a_word_on_who_may_come_in_there_is_no_gate() {
    let node = Node::new();
    let error = Gate::open(Rules::default(), node.peer(), node.path("tickets")).unwrap_err();
    assert!(matches!(error, AccessError::Nobody));
    assert!(error.to_string().contains("--allow-any"), "{error}");
}

#[test]
fn listed_peers_come_in_and_nobody_else() {
    let node = Node::new();
    let gate = node.gate(only(&[alice()]));
    let pass = ask(&gate, &[]).unwrap();
    assert!(gate.stands(&pass));
    assert_eq!((pass.peer(), pass.ticket()), (alice(), None));
    let denial = gate.admit(bob(), &kaspad(), &[], now()).unwrap_err();
    assert!(matches!(denial, Denial::NotAllowed));
    assert_eq!(denial.refusal(), Refusal::NotServed);
}

#[test]
fn anybody_means_anybody() {
    let node = Node::new();
    let gate = node.gate(Rules { allow_any: true, ..Rules::default() });
    assert!(gate.stands(&gate.admit(bob(), &kaspad(), &[], now()).unwrap()));
}

#[test]
fn where_tickets_are_not_taken_the_list_alone_decides() {
    let node = Node::new();
    let ticket = node.ticket(true);
    let gate = node.gate(only(&[bob()]));
    assert!(matches!(ask(&gate, ticket.proof()), Err(Denial::NotAllowed)));
    assert!(gate.admit(bob(), &kaspad(), ticket.proof(), now()).is_ok());
    let entry = node.ledger().read().unwrap().entries()[0].clone();
    assert_eq!(entry.standing(NOW), Standing::Valid, "it was not used up");
}

#[test]
fn a_ticket_that_is_presented_decides_alone_even_for_a_listed_peer() {
    let node = Node::new();
    let ticket = node.ticket(true);
    let gate = node.gate(Rules { tickets: true, ..only(&[alice()]) });
    assert!(ask(&gate, ticket.proof()).unwrap().ticket().is_some());
    assert!(matches!(ask(&gate, ticket.proof()), Err(Denial::Used { .. })));
    assert_eq!(ask(&gate, &[]).unwrap().ticket(), None);
}

#[test]
fn a_ticket_opens_its_service_again_and_again_and_writes_nothing() {
    let node = Node::new();
    let ticket = node.ticket(false);
    let gate = node.ticket_gate();
    let before = fs::read(node.path("tickets")).unwrap();
    for peer in [alice(), bob(), alice()] {
        let pass = gate.admit(peer, &kaspad(), ticket.proof(), now()).unwrap();
        assert_eq!(pass.ticket(), Some(ticket.id()));
        assert!(gate.stands(&pass));
        gate.put_back(&pass);
    }
    assert_eq!(fs::read(node.path("tickets")).unwrap(), before);
    assert!(matches!(ask(&gate, &[]), Err(Denial::NotAllowed)), "without it nobody comes in");
}

#[test]
fn a_gate_that_was_opened_before_the_first_ticket_honours_it() {
    let node = Node::new();
    let gate = node.ticket_gate();
    let ticket = node.ticket(false);
    assert!(ask(&gate, ticket.proof()).is_ok());
}

#[test]
fn each_bad_ticket_is_told_apart_here_and_tells_its_holder_no_more_than_it_may() {
    let node = Node::new();
    let gate = node.ticket_gate();
    let good = node.ticket(false);
    let denied = |service: &str, ticket: &[u8], at: u64| {
        let time = UNIX_EPOCH + Duration::from_secs(at);
        gate.admit(alice(), &service.parse().unwrap(), ticket, time).unwrap_err()
    };

    let denial = denied("kaspad", b"no ticket at all", NOW);
    assert!(matches!(denial, Denial::Malformed(_)) && denial.refusal() == Refusal::NotServed);
    let denial = denied("kaspad", &vec![1; 1024], NOW);
    assert!(matches!(denial, Denial::Malformed(_)) && denial.refusal() == Refusal::NotServed);

    let stranger = Ticket::issue(terms(false), routes(), &key(8)).unwrap();
    let denial = denied("kaspad", stranger.proof(), NOW);
    assert!(matches!(denial, Denial::Forged) && denial.refusal() == Refusal::NotServed);
    let mut tampered = good.proof().to_vec();
    tampered[25] ^= 1;
    let denial = denied("kaspad", &tampered, NOW);
    assert!(matches!(denial, Denial::Forged) && denial.refusal() == Refusal::NotServed);

    let denial = denied("wallet", good.proof(), NOW);
    assert!(matches!(denial, Denial::WrongService { .. }) && denial.refusal() == Refusal::NotServed);
    let denial = denied("wallet", good.proof(), NOW + 10);
    assert_eq!(denial.refusal(), Refusal::NotServed, "expired and for something else: no word of it");

    assert!(ask(&gate, good.proof()).is_ok());
    let denial = denied("kaspad", good.proof(), NOW + 10);
    assert!(matches!(denial, Denial::Expired { .. }) && denial.refusal() == Refusal::TicketExpired);

    node.revoke(good.id());
    let denial = denied("kaspad", good.proof(), NOW);
    assert!(matches!(denial, Denial::Revoked { .. }) && denial.refusal() == Refusal::TicketRevoked);

    let unknown = Ticket::issue(terms(true), routes(), &node.key).unwrap();
    let denial = denied("kaspad", unknown.proof(), NOW);
    assert!(matches!(denial, Denial::Unknown { .. }) && denial.refusal() == Refusal::TicketRevoked);
}

#[test]
fn a_single_use_ticket_is_good_once_whoever_asks_and_also_after_a_restart() {
    let node = Node::new();
    let ticket = node.ticket(true);
    let first = node.ticket_gate();
    let pass = ask(&first, ticket.proof()).unwrap();
    for gate in [first, node.ticket_gate()] {
        for peer in [alice(), bob()] {
            let denial = gate.admit(peer, &kaspad(), ticket.proof(), now()).unwrap_err();
            assert!(matches!(denial, Denial::Used { .. }), "{denial}");
            assert_eq!(denial.refusal(), Refusal::TicketUsed);
        }
        assert!(gate.stands(&pass), "the use itself goes on");
    }
    let book = node.ledger().read().unwrap();
    assert_eq!(book.entry(ticket.id()).unwrap().used.as_ref().unwrap().peer, alice());
}

#[test]
fn of_many_gates_that_race_for_a_single_use_ticket_exactly_one_lets_in() {
    let node = Node::new();
    for _ in 0..10 {
        let ticket = node.ticket(true);
        let start = std::sync::Barrier::new(8);
        let race = || {
            let gate = node.ticket_gate();
            start.wait();
            ask(&gate, ticket.proof())
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let used = outcomes.iter().filter(|outcome| matches!(outcome, Err(Denial::Used { .. })));
        assert_eq!(used.count(), 7, "{outcomes:?}");
    }
}

/// Set for the children of the next test: their directory.
const RACER: &str = "PUNCHLINE_TEST_RACER";

#[test]
fn of_many_processes_that_race_for_a_single_use_ticket_exactly_one_lets_in() {
    if let Some(directory) = std::env::var_os(RACER) {
        return race_in(Path::new(&directory));
    }
    let node = Node::new();
    fs::write(node.path("ticket"), node.ticket(true).to_string()).unwrap();
    let name = "of_many_processes_that_race_for_a_single_use_ticket_exactly_one_lets_in";
    let start = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", &format!("access::tests::gate::{name}")])
            .env(RACER, node.directory.path());
        child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut racers: Vec<Child> = (0..4).map(|_| start()).collect();
    // The end of their input is the signal.
    racers.iter_mut().for_each(|racer| drop(racer.stdin.take()));
    assert!(racers.iter_mut().all(|racer| racer.wait().unwrap().success()));
    let told = |told: &str| {
        let names = fs::read_dir(node.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(told)).count()
    };
    assert_eq!((told("in-"), told("used-")), (1, 3));
}

/// Uses the ticket that lies in the directory, and leaves a file that says what came of it.
fn race_in(directory: &Path) {
    let ticket: Ticket = fs::read_to_string(directory.join("ticket")).unwrap().parse().unwrap();
    let rules = Rules { tickets: true, ..Rules::default() };
    let gate = Gate::open(rules, ticket.peer(), directory.join("tickets")).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let outcome = match ask(&gate, ticket.proof()) {
        Ok(_) => "in",
        Err(Denial::Used { .. }) => "used",
        Err(denial) => panic!("{denial}"),
    };
    fs::write(directory.join(format!("{outcome}-{}", std::process::id())), "").unwrap();
}

#[test]
fn a_use_that_came_to_nothing_is_put_back_once() {
    let node = Node::new();
    let ticket = node.ticket(true);
    let gate = node.ticket_gate();
    let first = ask(&gate, ticket.proof()).unwrap();
    gate.put_back(&first);
    let second = gate.admit(bob(), &kaspad(), ticket.proof(), now()).unwrap();
    gate.put_back(&first);
    assert!(matches!(ask(&gate, ticket.proof()), Err(Denial::Used { .. })));
    gate.put_back(&second);
    assert!(ask(&gate, ticket.proof()).is_ok());
}

#[test]
fn every_revocation_is_noticed_at_once_however_quickly_they_follow() {
    let node = Node::new();
    let gate = node.ticket_gate();
    let passes: Vec<Pass> =
        (0..20).map(|n| ask(&gate, node.ticket(n % 2 == 0).proof()).unwrap()).collect();
    for pass in &passes {
        assert!(gate.stands(pass));
        node.revoke(pass.ticket().unwrap());
        assert!(!gate.stands(pass));
    }
}

#[test]
fn a_stream_outlives_its_ticket_but_not_its_revocation() {
    let node = Node::new();
    let gate = node.ticket_gate();
    let [kept, revoked] = [node.ticket(false), node.ticket(true)];
    let [kept_pass, revoked_pass] = [&kept, &revoked].map(|ticket| ask(&gate, ticket.proof()).unwrap());
    let (expired, long_expired) = (NOW + 10, NOW + 10 + 7 * 24 * 3600);
    assert!(gate.stands_at(&kept_pass, expired) && gate.stands_at(&revoked_pass, expired));
    node.revoke(revoked.id());
    assert!(gate.stands_at(&kept_pass, expired) && !gate.stands_at(&revoked_pass, expired));
    node.ledger().change(|book| book.issue(&terms(false), long_expired)).unwrap().unwrap();
    assert!(node.ledger().read().unwrap().entry(kept.id()).is_none(), "it is forgotten");
    assert!(gate.stands_at(&kept_pass, long_expired));
}

#[test]
fn a_ledger_that_is_moved_away_voids_every_ticket() {
    let node = Node::new();
    let gate = node.ticket_gate();
    let ticket = node.ticket(false);
    let pass = ask(&gate, ticket.proof()).unwrap();
    fs::rename(node.path("tickets"), node.path("away")).unwrap();
    assert!(!gate.stands_at(&pass, NOW));
    assert!(matches!(ask(&gate, ticket.proof()), Err(Denial::Unknown { .. })));
    fs::rename(node.path("away"), node.path("tickets")).unwrap();
    assert!(gate.stands_at(&pass, NOW) && ask(&gate, ticket.proof()).is_ok());
}

#[test]
fn a_ledger_that_cannot_be_read_lets_nobody_in_and_cuts_what_it_might_have_revoked() {
    let node = Node::new();
    let gate = node.gate(Rules { tickets: true, ..only(&[bob()]) });
    let [once, often] = [node.ticket(true), node.ticket(false)];
    let pass = ask(&gate, often.proof()).unwrap();
    let listed = gate.admit(bob(), &kaspad(), &[], now()).unwrap();
    let good = fs::read(node.path("tickets")).unwrap();
    fs::write(node.path("tickets"), "{").unwrap();
    for ticket in [&once, &often] {
        let denial = ask(&gate, ticket.proof()).unwrap_err();
        assert!(matches!(denial, Denial::Ledger { .. }) && denial.refusal() == Refusal::Busy);
    }
    assert!(!gate.stands_at(&pass, NOW));
    assert!(gate.stands(&listed) && gate.admit(bob(), &kaspad(), &[], now()).is_ok());
    let rules = Rules { tickets: true, ..Rules::default() };
    let error = Gate::open(rules, node.peer(), node.path("tickets")).unwrap_err();
    assert!(matches!(error, AccessError::Ledger(_)) && error.to_string().contains("damaged"));
    node.gate(only(&[bob()]));
    fs::write(node.path("tickets"), good).unwrap();
    assert!(ask(&gate, once.proof()).is_ok() && gate.stands_at(&pass, NOW), "once it is mended");
}

#[test]
fn the_allow_file_is_read_again_and_whoever_left_it_no_longer_stands() {
    let node = Node::new();
    let file = node.path("allowed");
    fs::write(&file, format!("{}\n", alice())).unwrap();
    let carol = key(102).public().to_peer_id();
    let gate = node.gate(Rules { allow_file: Some(file.clone()), ..only(&[carol]) });
    let pass = ask(&gate, &[]).unwrap();
    let fixed = gate.admit(carol, &kaspad(), &[], now()).unwrap();
    fs::write(&file, format!("{} # instead\n", bob())).unwrap();
    assert!(gate.stands(&pass), "not before it is told");
    gate.reload().unwrap();
    assert!(!gate.stands(&pass) && gate.stands(&fixed));
    assert!(matches!(ask(&gate, &[]), Err(Denial::NotAllowed)));
    assert!(gate.admit(bob(), &kaspad(), &[], now()).is_ok());
}

#[test]
fn an_allow_file_that_cannot_be_used_leaves_the_old_list_in_force() {
    let node = Node::new();
    let file = node.path("allowed");
    fs::write(&file, format!("{}\n", alice())).unwrap();
    let gate = node.gate(Rules { allow_file: Some(file.clone()), ..Rules::default() });
    fs::write(&file, format!("{}\nbob\n", bob())).unwrap();
    let error = gate.reload().unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(ask(&gate, &[]).is_ok());
    assert!(gate.admit(bob(), &kaspad(), &[], now()).is_err(), "not half of it either");
    fs::remove_file(&file).unwrap();
    assert!(gate.reload().is_err());
    assert!(ask(&gate, &[]).is_ok());
    let rules = Rules { allow_file: Some(file), ..Rules::default() };
    assert!(matches!(Gate::open(rules, node.peer(), node.path("t")), Err(AccessError::Allow(_))));
}
