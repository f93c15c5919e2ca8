//! Many peers that join the DHT, look up one server and call it, all at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use punchline_bridge::{
    Endpoint, Keypair, Multiaddr, PeerId,
    grpc::{self, Connector},
};
use punchline_discovery::{
    kad::{Config, Dht, Mode, Policy, Status},
    record::Contact,
};
use tokio::runtime::Handle;

use crate::{
    proto::test_client::TestClient,
    service::payload,
    world::{SERVER, Serving, Way, keypair, service, within},
};

/// As many as the bar asks for.
const PEERS: usize = 64;

fn config(keypair: Keypair, mode: Mode, bootstrap: &[Multiaddr]) -> Config {
    let listen = match mode {
        Mode::Client => Vec::new(),
        Mode::Auto | Mode::Server => vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
    };
    let policy = Policy {
        dials: Arc::new(|_: &Multiaddr, _: PeerId| true),
        hands_on: Arc::new(|_: &Multiaddr, _: PeerId| true),
        exempt: Arc::new(|_| true),
    };
    let bootstrap = bootstrap.to_vec();
    Config { mode, listen, bootstrap, ..Config::new(keypair, "crowd".parse().unwrap(), policy) }
}

async fn until(dht: &Dht, what: &str, is: impl Fn(&Status) -> bool) -> Status {
    let mut events = dht.events();
    within(what, async {
        loop {
            let status = dht.status().await.unwrap();
            if is(&status) {
                return status;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), events.recv()).await;
        }
    })
    .await
}

/// How long it took to join, and to look up and call after that.
async fn joins_finds_and_calls(bootstrap: &[Multiaddr], server: PeerId) -> (Duration, Duration) {
    let begun = Instant::now();
    let keypair = Keypair::generate_ed25519();
    let dht = Dht::start(config(keypair.clone(), Mode::Client, bootstrap)).unwrap();
    let (client, _events) = Endpoint::start(Way::Tcp.config(), keypair).await.unwrap();
    until(&dht, "a peer joins", |status| status.joined).await;
    let joined = begun.elapsed();
    let found = within("the server is found", dht.find_peer(server)).await.unwrap();
    client.add_addresses(server, found.contact().unwrap().addresses.clone()).await;
    let connector = Connector::new(client.clone(), server, service());
    let endpoint = grpc::client(&server);
    let channel = endpoint.connect_with_connector(connector);
    let channel = within("the channel", channel).await.unwrap();
    let answer = within("the call", TestClient::new(channel).echo(payload(7, 64))).await.unwrap();
    assert_eq!(answer.into_inner(), payload(7, 64));
    (joined, begun.elapsed() - joined)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_peers_join_look_up_and_call_at_once_and_each_is_answered() {
    let boot = Dht::start(config(Keypair::generate_ed25519(), Mode::Server, &[])).unwrap();
    let listening = until(&boot, "it listens", |status| !status.listening.is_empty()).await.listening;
    let serving = Serving::start(Way::Tcp.config(), &Handle::current()).await;
    let teller = Dht::start(config(keypair(SERVER), Mode::Client, &listening)).unwrap();
    let addresses = serving.node.listening().to_vec();
    teller.says(Contact { addresses, ..Contact::default() }).await;
    until(&teller, "the server is told of", |status| status.published.is_some()).await;
    let server = serving.node.peer_id();
    let mut all = join_all((0..PEERS).map(|_| joins_finds_and_calls(&listening, server))).await;
    let p95 = PEERS * 95 / 100;
    all.sort_by_key(|(_, called)| *called);
    let called = all[p95].1;
    all.sort_by_key(|(joined, _)| *joined);
    println!("{PEERS} peers at once: p95 {:?} to join, {called:?} to look up and call", all[p95].0);
}
