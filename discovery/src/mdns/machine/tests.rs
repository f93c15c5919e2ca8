#![allow(clippy::unwrap_used)]
use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A host with an address in a home network, on which it listens, and others.
struct World {
    machine: Machine,
    now: Instant,
}

fn at(address: &str) -> Multiaddr {
    address.parse().unwrap()
}

fn from(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 40_000)
}

impl World {
    fn new(nets: &[&str], listening: &[&str]) -> Self {
        let (mut machine, now) = (Machine::new(PeerId::random(), 7), Instant::now());
        machine.networks(nets.iter().map(|net| net.parse().unwrap()), now);
        machine.listening(listening.iter().map(|address| at(address)).collect(), now);
        Self { machine, now }
    }

    fn home() -> Self {
        Self::new(&["192.168.1.7/24", "127.0.0.1/8"], &["/ip4/192.168.1.7/tcp/4001"])
    }

    /// What is sent in a while, and after how long.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, Send)> {
        let (began, mut sends) = (self.now, Vec::new());
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= began + time) {
            self.now = self.now.max(at);
            let sent = self.machine.handle_timeout(self.now);
            sends.extend(sent.into_iter().map(|send| (self.now - began, send)));
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "or the driver spins");
        }
        self.now = began + time;
        sends
    }

    fn questions(&mut self, time: Duration) -> Vec<Duration> {
        let is_question = |send: &Send| message::read(&send.packet) == Some(Message::Question);
        self.pass(time).into_iter().filter(|(_, send)| is_question(send)).map(|(at, _)| at).collect()
    }

    fn asked(&mut self, who: &str) {
        let question = message::question().unwrap();
        assert_eq!(self.machine.received(&question, from(who), self.now), []);
    }

    fn told(&mut self, who: &str, addresses: &[&str]) -> Vec<Hint> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| at(address)).collect();
        let packet = message::answer(PeerId::random(), "x", &addresses, 120 * S).unwrap();
        self.machine.received(&packet, from(who), self.now)
    }
}

fn answered(send: &Send) -> Vec<Multiaddr> {
    match message::read(&send.packet) {
        Some(Message::Answer(mut said)) => said.remove(0).addresses,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_starts_says_so_twice_on_each_network_with_what_listens_there() {
    let mut world = World::new(
        &["192.168.1.7/24", "10.0.0.7/8", "127.0.0.1/8", "198.51.100.7/24", "172.17.0.1/16"],
        &[
            "/ip4/192.168.1.7/tcp/4001",
            "/ip4/192.168.1.7/udp/4001/quic-v1",
            "/ip4/10.0.0.7/tcp/4001",
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/198.51.100.7/tcp/4001",
            "/ip6/2600::1/tcp/4001",
        ],
    );
    let sends = world.pass(S * 10);
    let by_lan = |ip: &str, at: Duration| {
        let of_lan = |(when, send): &&(Duration, Send)| *when == at && send.lan.to_string() == ip;
        sends.iter().find(of_lan).map(|(_, send)| answered(send))
    };
    let home = vec![at("/ip4/192.168.1.7/tcp/4001"), at("/ip4/192.168.1.7/udp/4001/quic-v1")];
    assert_eq!(by_lan("192.168.1.7", Duration::ZERO), Some(home.clone()));
    assert_eq!(by_lan("192.168.1.7", S), Some(home));
    assert_eq!(by_lan("10.0.0.7", S), Some(vec![at("/ip4/10.0.0.7/tcp/4001")]));
    assert_eq!(sends.len(), 4, "nothing on this host alone, in public, or where it does not listen");
}

#[test]
fn a_node_that_listens_on_no_local_network_says_and_hears_nothing_there() {
    let mut world = World::new(&["192.168.1.7/24", "127.0.0.1/8"], &["/ip4/127.0.0.1/tcp/4001"]);
    world.machine.seek(world.now);
    assert_eq!(world.pass(S * 100), []);
    assert_eq!(world.told("192.168.1.9", &["/ip4/192.168.1.9/tcp/1"]), []);
    assert_eq!(world.machine.lans().count(), 0);
}

#[test]
fn over_ipv6_nothing_is_said_and_nothing_believed() {
    let mut world = World::new(&[], &["/ip6/fd00::7/tcp/4001"]);
    world.machine.seek(world.now);
    assert_eq!(world.pass(S * 100), []);
    let mut world = World::home();
    assert_eq!(world.told("fd00::9", &["/ip6/fd00::9/tcp/1", "/ip4/192.168.1.9/tcp/1"]), []);
    assert_eq!(world.told("192.168.1.9", &["/ip6/fd00::9/tcp/1"]), []);
}

#[test]
fn who_is_sought_is_asked_for_at_once_and_then_ever_more_rarely() {
    let mut world = World::home();
    assert!(world.questions(S * 100).is_empty(), "nobody is sought");
    world.machine.seek(world.now);
    let waits = world.questions(S * 300);
    assert_eq!(waits[..4], [Duration::ZERO, 250 * MS, 750 * MS, 1750 * MS]);
    assert_eq!(waits[waits.len() - 1] - waits[waits.len() - 2], S * 60);
    world.machine.seek(world.now);
    assert_eq!(world.questions(MS), [Duration::ZERO], "another one is sought");
    world.pass(S * 300);
    let nets = ["192.168.1.7/24", "192.168.2.7/24"].map(|net| net.parse().unwrap());
    world.machine.networks(nets.into_iter(), world.now);
    let both = ["/ip4/192.168.1.7/tcp/4001", "/ip4/192.168.2.7/tcp/4001"].map(at).to_vec();
    world.machine.listening(both, world.now);
    assert_eq!(world.questions(MS).len(), 2, "there is another network to ask in");
}

#[test]
fn a_question_is_answered_soon_and_any_number_of_them_four_times_a_second() {
    let mut world = World::home();
    world.pass(S * 10);
    world.asked("192.168.1.9");
    let sends = world.pass(S);
    assert_eq!(sends.len(), 1);
    assert!(sends[0].0 >= 20 * MS && sends[0].0 < 120 * MS, "{sends:?}");
    let mut answers = 0;
    for _ in 0..100 {
        world.asked("192.168.1.9");
        answers += world.pass(10 * MS).len();
    }
    assert_eq!(answers, 4);
}

#[test]
fn a_question_is_answered_on_the_network_that_it_came_from_alone() {
    let nets = ["192.168.1.7/24", "10.0.0.7/8"];
    let mut world = World::new(&nets, &["/ip4/192.168.1.7/tcp/4001", "/ip4/10.0.0.7/tcp/4001"]);
    world.pass(S * 10);
    world.asked("192.168.1.9");
    let lans: Vec<String> = world.pass(S).iter().map(|(_, send)| send.lan.to_string()).collect();
    assert_eq!(lans, ["192.168.1.7"]);
}

#[test]
fn another_address_is_announced_where_it_is_and_the_same_ones_are_not_again() {
    let mut world = World::home();
    world.pass(S * 10);
    let same = vec![at("/ip4/192.168.1.7/tcp/4001")];
    world.machine.listening(same.clone(), world.now);
    assert_eq!(world.pass(S * 10), []);
    let both = [same, vec![at("/ip4/192.168.1.7/udp/4001/quic-v1")]].concat();
    world.machine.listening(both.clone(), world.now);
    let sends = world.pass(S * 10);
    assert_eq!(sends.iter().map(|(_, send)| answered(send)).collect::<Vec<_>>(), [both.clone(), both]);
}

#[test]
fn a_network_that_is_gone_is_not_spoken_on_and_nothing_is_believed_from_there() {
    let mut world = World::home();
    world.machine.seek(world.now);
    world.pass(S * 10);
    world.machine.networks(std::iter::empty(), world.now);
    assert_eq!(world.pass(S * 300), []);
    assert_eq!(world.told("192.168.1.9", &["/ip4/192.168.1.9/tcp/1"]), []);
    let narrower = std::iter::once("192.168.1.7/30".parse().unwrap());
    world.machine.networks(narrower, world.now);
    world.pass(S * 10);
    assert_eq!(world.told("192.168.1.9", &["/ip4/192.168.1.9/tcp/1"]), [], "it is another network");
}

#[test]
fn only_what_the_system_vouches_for_is_believed() {
    for (who, named, believed, source) in [
        ("192.168.1.9", "/ip4/192.168.1.9/tcp/1", true, Source::LocalNetwork),
        ("192.168.1.9", "/ip4/192.168.1.8/udp/1/quic-v1", true, Source::LocalNetwork),
        ("192.168.1.9", "/ip4/192.168.1.7/tcp/1", false, Source::LocalNetwork),
        ("192.168.1.9", "/ip4/192.168.2.9/tcp/1", false, Source::LocalNetwork),
        ("192.168.1.9", "/ip4/127.0.0.1/tcp/1", false, Source::LocalNetwork),
        ("192.168.1.9", "/ip4/8.8.8.8/tcp/1", false, Source::LocalNetwork),
        ("192.168.1.9", "/dns4/example.org/tcp/1", false, Source::LocalNetwork),
        ("192.168.2.9", "/ip4/192.168.2.9/tcp/1", false, Source::LocalNetwork),
        ("8.8.8.8", "/ip4/192.168.1.9/tcp/1", false, Source::LocalNetwork),
        ("192.168.1.7", "/ip4/192.168.1.7/tcp/1", true, Source::ThisHost),
        ("192.168.1.7", "/ip4/192.168.1.9/tcp/1", false, Source::ThisHost),
    ] {
        let mut world = World::home();
        let hints = world.told(who, &[named]);
        assert_eq!(!hints.is_empty(), believed, "{who} says {named}");
        assert!(hints.iter().all(|hint| hint.source == source), "{hints:?}");
    }
}

#[test]
fn our_own_words_are_no_news() {
    let mut world = World::home();
    let sends = world.pass(S);
    let heard = world.machine.received(&sends[0].1.packet, from("192.168.1.7"), world.now);
    assert_eq!(heard, []);
}

#[test]
fn of_a_flood_only_so_many_packets_are_read_in_a_second() {
    let mut world = World::home();
    let mut said = 0;
    for _ in 0..10_000 {
        world.told("198.51.100.66", &["/ip4/192.168.1.66/tcp/1"]);
    }
    for _ in 0..10_000 {
        said += world.told("192.168.1.66", &["/ip4/192.168.1.66/tcp/1"]).len();
    }
    assert_eq!(said, PACKETS_PER_SECOND as usize);
    world.pass(S);
    assert_eq!(world.told("192.168.1.9", &["/ip4/192.168.1.9/tcp/1"]).len(), 1);
}

#[test]
fn the_networks_that_are_used_are_bounded() {
    let ips: Vec<String> = (0..100).map(|net| format!("10.0.{net}.1")).collect();
    let nets: Vec<String> = ips.iter().map(|ip| format!("{ip}/24")).collect();
    let listening: Vec<String> = ips.iter().map(|ip| format!("/ip4/{ip}/tcp/1")).collect();
    let (nets, listening): (Vec<&str>, Vec<&str>) =
        (nets.iter().map(String::as_str).collect(), listening.iter().map(String::as_str).collect());
    assert_eq!(World::new(&nets, &listening).machine.lans().count(), LANS_MAX);
}
