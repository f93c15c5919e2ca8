//! Real nodes of one process, over memory, with a fault.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    noise, ping,
    swarm::NetworkBehaviour,
    yamux,
};
use tokio::{task::JoinHandle, time::timeout};

use super::super::*;
use crate::{
    kad::{Carrier, Config, Dht, Mode, Policy},
    keys::Namespace,
    record::Contact,
};

/// For anything that happens on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn config(network: &str, mode: Mode, bootstrap: &[Multiaddr]) -> Config {
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
        ..Config::new(Keypair::generate_ed25519(), network.parse().unwrap(), policy)
    }
}

struct Node {
    dht: Dht,
    peer: PeerId,
    address: Option<Multiaddr>,
}

impl Node {
    fn start(config: Config) -> Self {
        let peer = config.keypair.public().to_peer_id();
        let address = config.listen.first().map(|address| address.clone().with_p2p(peer).unwrap());
        Self { dht: Dht::start(config).unwrap(), peer, address }
    }

    fn server(bootstrap: &[Multiaddr]) -> Self {
        Self::start(config("test", Mode::Server, bootstrap))
    }

    fn client(bootstrap: &[Multiaddr]) -> Self {
        Self::start(config("test", Mode::Client, bootstrap))
    }

    async fn published(&self) {
        let at: Multiaddr = "/ip4/198.51.100.7/tcp/4001".parse().unwrap();
        self.dht.says(Contact { addresses: vec![at], ..Contact::default() }).await;
        self.until(|status| status.published.is_some()).await;
    }

    async fn until(&self, is: impl Fn(&crate::kad::Status) -> bool) {
        let mut events = self.dht.events();
        let until = async {
            while !is(&self.dht.status().await.unwrap()) {
                let _ = timeout(Duration::from_millis(250), events.recv()).await;
            }
        };
        if timeout(SOON, until).await.is_err() {
            panic!("{:?}", self.dht.status().await);
        }
    }

    /// Verified, with both directions open.
    async fn verified(&self, namespace: Option<Namespace>) -> Report {
        let gathered = gather(&self.dht, self.peer, namespace);
        let Gathered { table, publish, read, members, found } =
            timeout(SOON, gathered).await.expect("it has deadlines of its own");
        let bootstraps = table.found.bootstraps.iter().filter_map(|node| node.peer).collect();
        let by_source =
            [("kad".to_owned(), table.found.nodes.clone()), ("namespace".to_owned(), found)].into();
        let ways = [Direction::Out, Direction::In];
        let ways = ways.map(|direction| super::way(direction, Route::Direct, true)).into();
        let directions = Directions { ways, to_be_found: true, missed: None };
        judge(&Evidence {
            peers: super::timed(Peers { by_source, bootstraps }),
            directions: super::timed(directions),
            table,
            publish,
            read,
            members,
        })
    }
}

async fn servers(number: usize) -> (Vec<Node>, [Multiaddr; 1]) {
    let first = Node::server(&[]);
    let to = [first.address.clone().unwrap()];
    let mut nodes = vec![first];
    nodes.extend((1..number).map(|_| Node::server(&to)));
    for node in &nodes[1..] {
        node.until(|status| status.joined).await;
    }
    (nodes, to)
}

fn verdicts(report: &Report) -> Vec<&'static str> {
    report.steps.iter().map(|step| step.verdict.name()).collect()
}

fn namespace(secret: &[u8]) -> Namespace {
    Namespace::secret(&"test".parse().unwrap(), "kaspa-test", secret).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_where_it_is_passes_all_six_steps_and_leaves_nothing_behind() {
    let (nodes, to) = servers(4).await;
    let here = Node::client(&to);
    here.published().await;
    let report = here.verified(None).await;
    assert_eq!(verdicts(&report), ["pass"; 6], "{report:#?}");
    assert!(report.steps[5].found.contains("for the trial"), "{report:#?}");
    let counts = &report.steps[1].counts;
    assert!(counts.contains(&("kept_by", 4)), "{counts:?}");
    assert_eq!(here.dht.status().await.unwrap().kept.own_keys, 0, "the trial is over");
    // Verified again and again, it takes no more room at others.
    let records = || async { nodes[1].dht.status().await.unwrap().kept.records };
    let before = records().await;
    here.verified(None).await;
    assert_eq!(records().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_a_namespace_is_found_in_it() {
    let (_nodes, to) = servers(3).await;
    let (here, other) = (Node::client(&to), Node::client(&to));
    for node in [&here, &other] {
        node.dht.join(namespace(&[7; 16])).await;
        let mut events = node.dht.events();
        node.published().await;
        let stored = async {
            while !matches!(events.recv().await, Ok(crate::kad::Event::DataStored { nodes: 3 })) {}
        };
        timeout(SOON, stored).await.unwrap();
    }
    let report = here.verified(None).await;
    assert_eq!(verdicts(&report), ["pass"; 6], "{report:#?}");
    assert!(report.steps[5].found.contains("`kaspa-test`"), "{report:#?}");
    assert!(report.steps[3].found.contains("1 by namespace"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_of_the_same_namespace_fails_at_step_six() {
    let (_nodes, to) = servers(2).await;
    let here = Node::client(&to);
    here.dht.join(namespace(&[7; 16])).await;
    here.published().await;
    let report = here.verified(Some(namespace(&[8; 16]))).await;
    assert_eq!(verdicts(&report), ["pass", "pass", "pass", "pass", "pass", "fail"], "{report:#?}");
    let advice = report.steps[5].advice.as_ref().unwrap();
    assert!(advice.contains("--namespace-secret"), "{advice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bootstrap_node_of_another_network_fails_at_step_one_and_both_networks_are_named() {
    let (_nodes, to) = servers(1).await;
    let here = Node::start(config("other", Mode::Client, &to));
    here.until(|status| status.bootstraps[0].network.is_some()).await;
    let report = here.verified(None).await;
    assert_eq!(report.worst().step, Step::Table, "{report:#?}");
    let advice = report.steps[0].advice.as_ref().unwrap();
    assert!(advice.contains("network `test`, this node of `other`"), "{advice}");
    assert_eq!(verdicts(&report)[0], "fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_node_that_is_not_there_fails_at_step_one() {
    let nobody = format!("/memory/{}/p2p/{}", rand::random_range(1..u64::MAX), PeerId::random());
    let here = Node::client(&[nobody.parse().unwrap()]);
    let report = here.verified(None).await;
    assert_eq!((report.worst().step, verdicts(&report)[0]), (Step::Table, "fail"), "{report:#?}");
    let advice = report.steps[0].advice.as_ref().unwrap();
    assert!(advice.contains(&nobody) && advice.contains("firewall"), "{advice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_node_that_keeps_nothing_fails_at_step_two_and_is_blamed() {
    let (forgetful, at) = forgetful().await;
    let here = Node::client(&[at]);
    here.until(|status| status.joined).await;
    let report = here.verified(None).await;
    assert_eq!(verdicts(&report)[..3], ["pass", "fail", "fail"], "{report:#?}");
    assert_eq!(report.steps[1].step, Step::Publish);
    let finding = &report.steps[1];
    assert!(finding.found.contains("1 node took what this node says, and none gives it back"));
    assert!(finding.advice.as_ref().unwrap().contains("lifetime of records there is 0"));
    assert_eq!(report.steps[2].advice.as_deref(), Some("mend step 2 first"));
    forgetful.abort();
}

#[derive(NetworkBehaviour)]
struct Forgetful {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// A stock node that answers, and where whatever is put has expired at once.
async fn forgetful() -> (JoinHandle<()>, Multiaddr) {
    let behaviour = |keypair: &Keypair| {
        let protocol = libp2p::StreamProtocol::new("/punchline/test/kad/1.0.0");
        let local = keypair.public().to_peer_id();
        let mut config = kad::Config::new(protocol);
        config.set_record_ttl(Some(Duration::ZERO)).set_provider_record_ttl(Some(Duration::ZERO));
        let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
        kad.set_mode(Some(kad::Mode::Server));
        let identify = identify::Config::new("/stock/1".to_owned(), keypair.public());
        let ping = ping::Behaviour::default();
        Forgetful { identify: identify::Behaviour::new(identify), ping, kad }
    };
    let transport = |keypair: &Keypair| {
        let memory = MemoryTransport::new().upgrade(Version::V1Lazy);
        memory.authenticate(noise::Config::new(keypair).unwrap()).multiplex(yamux::Config::default())
    };
    let mut swarm: Swarm<Forgetful> = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(transport)
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .build();
    let port: u64 = rand::random_range(1..=u64::MAX);
    let at: Multiaddr = format!("/memory/{port}").parse().unwrap();
    swarm.listen_on(at.clone()).unwrap();
    swarm.add_external_address(at.clone());
    let peer = *swarm.local_peer_id();
    let running = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (running, at.with_p2p(peer).unwrap())
}
