//! Nodes of one process, over memory.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod crowded;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::timeout;

use super::*;
use crate::{
    UnixTime,
    keys::content_key,
    record::{Delegation, Statement, Value, sign},
};

/// For anything that happens on a busy machine.
const SOON: Duration = Duration::from_secs(60);

struct Node {
    dht: Dht,
    peer: PeerId,
    /// None: it only asks.
    address: Option<Multiaddr>,
    config: Config,
}

fn config(mode: Mode, bootstrap: &[Multiaddr]) -> Config {
    let keypair = Keypair::generate_ed25519();
    let port: u64 = rand::random_range(1..=u64::MAX);
    let listen =
        if mode == Mode::Client { Vec::new() } else { vec![format!("/memory/{port}").parse().unwrap()] };
    let policy = Policy {
        dials: Arc::new(|_: &Multiaddr, _: PeerId| true),
        hands_on: Arc::new(|_: &Multiaddr, _: PeerId| true),
        exempt: Arc::new(|_| true),
    };
    Config {
        mode,
        listen,
        bootstrap: bootstrap.to_vec(),
        carrier: Carrier::Memory,
        ..Config::new(keypair, "test".parse().unwrap(), policy)
    }
}

impl Node {
    fn start(config: Config) -> Self {
        let peer = config.keypair.public().to_peer_id();
        let address = config.listen.first().map(|address| address.clone().with_p2p(peer).unwrap());
        Self { dht: Dht::start(config.clone()).unwrap(), peer, address, config }
    }

    fn server(bootstrap: &[Multiaddr]) -> Self {
        Self::start(config(Mode::Auto, bootstrap))
    }

    fn client(bootstrap: &[Multiaddr]) -> Self {
        Self::start(config(Mode::Client, bootstrap))
    }

    fn remembering(bootstrap: &[Multiaddr], memory: PathBuf) -> Self {
        Self::start(Config { memory: Some(memory), ..config(Mode::Auto, bootstrap) })
    }

    async fn status(&self) -> Status {
        self.dht.status().await.unwrap()
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let mut events = self.dht.events();
        let until = async {
            loop {
                let status = self.status().await;
                if is(&status) {
                    return status;
                }
                let _ = timeout(Duration::from_millis(250), events.recv()).await;
            }
        };
        match timeout(SOON, until).await {
            Ok(status) => status,
            Err(_) => panic!("not {what}: {:?}", self.status().await),
        }
    }

    async fn joined(&self) {
        self.until("joined", |status| status.joined).await;
    }

    /// Says where it is, and waits until others keep it.
    async fn published(&self) -> Multiaddr {
        let at: Multiaddr =
            format!("/ip4/198.51.100.7/tcp/{}", rand::random_range(1..u16::MAX)).parse().unwrap();
        self.dht.says(Contact { addresses: vec![at.clone()], ..Contact::default() }).await;
        self.until("published", |status| status.published.is_some()).await;
        at
    }
}

fn addresses(record: &Record) -> Vec<Multiaddr> {
    record.contact().unwrap().addresses.clone()
}

async fn servers(number: usize) -> Vec<Node> {
    let first = Node::server(&[]);
    let to = [first.address.clone().unwrap()];
    let mut nodes = vec![first];
    nodes.extend((1..number).map(|_| Node::server(&to)));
    for node in &nodes[1..] {
        node.joined().await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_found_by_its_id_and_nothing_else() {
    let bootstrap = Node::server(&[]);
    let to = [bootstrap.address.clone().unwrap()];
    let (there, here) = (Node::client(&to), Node::client(&to));
    let at = there.published().await;
    here.joined().await;
    let found = timeout(SOON, here.dht.find_peer(there.peer)).await.unwrap().unwrap();
    assert_eq!((found.signer(), addresses(&found)), (there.peer, vec![at]));
    assert_eq!(here.dht.find_peer(PeerId::random()).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_says_anew_is_what_everybody_finds() {
    let nodes = servers(4).await;
    let there = &nodes[3];
    there.published().await;
    let at: Multiaddr = "/ip4/198.51.100.8/tcp/8".parse().unwrap();
    there.dht.says(Contact { addresses: vec![at.clone()], ..Contact::default() }).await;
    for node in &nodes[..3] {
        let newest = async {
            loop {
                let found = node.dht.find_peer(there.peer).await;
                if found.is_some_and(|found| addresses(&found) == [at.clone()]) {
                    break;
                }
            }
        };
        timeout(SOON, newest).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_content_delegations_and_those_who_have_something_are_found_by_others() {
    let nodes = servers(3).await;
    let to = [nodes[0].address.clone().unwrap()];
    let (there, here) = (Node::client(&to), Node::client(&to));
    there.joined().await;
    here.joined().await;
    let value = Value { name: b"motto".to_vec(), bytes: b"found".to_vec() };
    assert_eq!(there.dht.say(Body::Value(value.clone())).await, Ok(3));
    match here.dht.find(RecordKey::value(there.peer, b"motto")).await {
        Some(Found::Record(record)) => assert_eq!(record.body(), &Body::Value(value)),
        other => panic!("{other:?}"),
    }
    let content = b"any bytes".to_vec();
    let key = RecordKey::content(&content);
    assert_eq!(there.dht.put(key.clone(), content.clone()).await, Ok(3));
    assert_eq!(here.dht.find(key.clone()).await, Some(Found::Content(content)));
    let refused = there.dht.put(key, b"other bytes".to_vec()).await;
    assert!(matches!(refused, Err(RecordError::Refused { .. })), "{refused:?}");
    // The authority's key is in a safe; what it signed is not.
    let authority = Keypair::generate_ed25519();
    let issued = UnixTime::from(SystemTime::now());
    let body = Body::Delegation(Delegation { to: there.peer });
    let network = there.config.network.clone();
    let lasts = Duration::from_secs(3600);
    let signed = sign(&authority, Statement { network, sequence: 1, issued, lasts, body }).unwrap();
    assert_eq!(here.dht.put(signed.key(), signed.bytes().to_vec()).await, Ok(3));
    let id = authority.public().to_peer_id();
    assert_eq!(nodes[2].dht.find_authority(id).await, Some(there.peer));
    let key = content_key(&here.config.network, &[7; 32]).to_vec();
    let mut events = there.dht.events();
    there.dht.provide(key.clone()).await;
    let stored = async { while !matches!(events.recv().await, Ok(Event::DataStored { .. })) {} };
    timeout(SOON, stored).await.unwrap();
    let have = async { while here.dht.providers(key.clone()).await != [there.peer] {} };
    timeout(SOON, have).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_network_never_meet_ours() {
    let ours = servers(2).await;
    let to = [ours[0].address.clone().unwrap()];
    let stranger = Node::start(Config { network: "other".parse().unwrap(), ..config(Mode::Auto, &to) });
    let friend = Node::server(&to);
    friend.joined().await;
    let down = |status: &Status| status.bootstraps[0].health == Health::Down;
    let status = stranger.until("told that nobody answers there", down).await;
    assert_eq!((status.table(), status.joined), (0, false));
    for node in &ours {
        let status = node.until("three", |status| status.table() == 2).await;
        assert!(!status.denied.contains_key("no_server"), "it was let in, and put out again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_first_is_told_of_what_happened_before() {
    let late = Node::server(&[]);
    while late.status().await.listening.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut events = late.dht.events();
    let heard = timeout(SOON, events.recv()).await.unwrap();
    assert!(matches!(heard, Ok(Event::Listening { .. })), "{heard:?}");
}

#[tokio::test]
async fn a_node_answers_where_strangers_reach_it_and_nowhere_else() {
    let private =
        Policy { dials: Arc::new(|_: &Multiaddr, _: PeerId| false), ..config(Mode::Auto, &[]).policy };
    let with = |mode, external: &[Multiaddr]| {
        let external = external.to_vec();
        Node::start(Config { external, policy: private.clone(), ..config(mode, &[]) })
    };
    let at: Multiaddr = "/memory/7".parse().unwrap();
    for (node, serves) in [
        (with(Mode::Auto, &[]), false),
        (with(Mode::Auto, std::slice::from_ref(&at)), true),
        (with(Mode::Server, &[]), true),
        (with(Mode::Client, &[at]), false),
        (Node::server(&[]), true),
    ] {
        let listens = |status: &Status| node.config.mode == Mode::Client || !status.listening.is_empty();
        assert_eq!(node.until("listening", listens).await.server, serves, "{:?}", node.config);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_new_policy_does_not_let_through_is_left_and_does_not_come_back() {
    let nodes = servers(3).await;
    let first = &nodes[0];
    first.until("in one network", |status| status.table() == 2).await;
    let nobody =
        Policy { dials: Arc::new(|_: &Multiaddr, _: PeerId| false), ..first.config.policy.clone() };
    first.dht.keep_to(nobody).await;
    let status = first.until("alone", |status| status.table() == 0).await;
    assert!(!status.server, "nobody is to reach it, either");
    // The others come again.
    nodes[1].dht.closest_peers(first.peer).await;
    assert_eq!(first.status().await.table(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_another_identity_answers_the_address_is_banned_and_the_peer_is_reached_elsewhere() {
    let nodes = servers(2).await;
    let [other, there] = [0, 1].map(|node| nodes[node].config.listen[0].clone());
    let at = [other, there].map(|at| at.with_p2p(nodes[1].peer).unwrap());
    let asks = Node::client(&at);
    asks.until("told the wrong address", |status| status.banned == 1).await;
    asks.joined().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_asks_is_in_nobody_s_table() {
    let nodes = servers(3).await;
    let to = [nodes[0].address.clone().unwrap()];
    let clients = [Node::client(&to), Node::client(&to)];
    for client in &clients {
        client.published().await;
        assert!(!client.status().await.server);
    }
    for node in &nodes {
        node.until("knows the other servers", |status| status.table() == 2).await;
        let closest = node.dht.closest_peers(clients[0].peer).await;
        assert!(clients.iter().all(|client| !closest.contains(&client.peer)), "{closest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_sought_is_hinted_at_when_it_publishes() {
    let bootstrap = Node::server(&[]);
    let to = [bootstrap.address.clone().unwrap()];
    let there = Node::client(&to);
    let (_dht, mut finder) = start(config(Mode::Client, &to)).unwrap();
    finder.seek(&BTreeSet::from([there.peer]), there.peer);
    let at = there.published().await;
    let hint = std::future::poll_fn(|cx| finder.poll_hint(cx));
    let hint = timeout(SOON, hint).await.unwrap();
    assert_eq!((hint.peer, hint.source, hint.addresses), (there.peer, crate::Source::Kad, vec![at]));
}

#[cfg(feature = "cache")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_bootstrap_node_the_network_goes_on_and_a_node_that_restarts_is_back_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = servers(19).await;
    let to = [nodes[0].address.clone().unwrap()];
    nodes.push(Node::remembering(&to, folder.path().join("dht")));
    for node in &nodes[1..] {
        node.joined().await;
    }
    let last = nodes.pop().unwrap();
    last.until("in the table", |status| status.table() >= 15).await;
    let at = nodes[7].published().await;
    nodes[0].dht.stop().await;
    last.dht.stop().await;
    let found = timeout(SOON, nodes[3].dht.find_peer(nodes[7].peer)).await.unwrap();
    assert_eq!(addresses(&found.unwrap()), [at]);
    let later = nodes[11].published().await;
    // Memory does not give a port back.
    let back = Node::start(Config { listen: config(Mode::Auto, &[]).listen, ..last.config.clone() });
    back.joined().await;
    let found = timeout(SOON, back.dht.find_peer(nodes[11].peer)).await.unwrap();
    assert_eq!(addresses(&found.unwrap()), [later]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_members_of_a_namespace_see_all_forty() {
    let nodes = servers(8).await;
    let to = [nodes[0].address.clone().unwrap()];
    let namespace = Namespace::public(&nodes[0].config.network, "kaspa-mainnet").unwrap();
    let members: Vec<Node> = (0..40).map(|_| Node::client(&to)).collect();
    for member in &members {
        member.joined().await;
    }
    let ready = Instant::now();
    let mut events = Vec::new();
    for member in &members {
        events.push(member.dht.events());
        member.dht.join(namespace.clone()).await;
        member.dht.watch(namespace.clone()).await;
    }
    let all: BTreeSet<PeerId> = members.iter().map(|member| member.peer).collect();
    for (mut events, member) in events.into_iter().zip(&members) {
        let mut seen = BTreeSet::from([member.peer]);
        let see = async {
            while seen != all {
                if let Ok(Event::MemberFound { peer, .. }) = events.recv().await {
                    seen.insert(peer);
                }
            }
        };
        let within = timeout(SOON, see).await;
        assert!(within.is_ok(), "{} of 40 after {:?}", seen.len(), ready.elapsed());
    }
    eprintln!("forty see forty after {:?}", ready.elapsed());
}
