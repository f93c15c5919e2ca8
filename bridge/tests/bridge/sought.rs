//! Streams to peers whose addresses nobody gave: somebody finds them meanwhile, or somebody else is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use punchline_bridge::{
    Event, Multiaddr, PeerId, Sought,
    addr::HintSource,
    error::{DialFailureReason, OpenError, TriedWay},
    event::Awaited,
};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Node, TCP, config, exchange, service, until, within};

/// As long as a hint may take on a busy machine.
const PATIENT: Duration = Duration::from_secs(30);

/// A node whose peers somebody finds, and whom it wants to be found.
async fn seeking(patience: Duration) -> (Node, Sought) {
    let node = Node::start(config(TCP)).await;
    let sought = node.endpoint.found_by(vec!["test".to_owned()], patience).await;
    (node, sought)
}

async fn wants(sought: &mut Sought) -> Vec<PeerId> {
    within("whom to find", sought.changed()).await.unwrap().into_iter().collect()
}

/// An address that leads to a node, and how often it was dialled.
async fn counted(node: &Node) -> (Multiaddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind: u16 =
        node.endpoint.listening()[0].to_string().rsplit('/').next().unwrap().parse().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap(), dials)
}

#[tokio::test]
async fn a_stream_to_a_peer_of_which_nothing_is_known_opens_when_somebody_finds_it() {
    let server = Node::start(config(TCP)).await;
    server.echo().await;
    let (client, mut sought) = seeking(PATIENT).await;
    let (endpoint, peer) = (client.endpoint.clone(), server.id());
    let opening = tokio::spawn(async move { endpoint.open(peer, service()).await });
    assert_eq!(wants(&mut sought).await, [peer]);
    let addresses = server.endpoint.listening().to_vec();
    client.endpoint.hint(peer, addresses, HintSource::ThisHost).await;
    let stream = within("a stream", opening).await.unwrap().unwrap();
    exchange(stream, b"found").await;
    assert_eq!(wants(&mut sought).await, []);
}

#[tokio::test]
async fn where_nobody_finds_the_peer_there_is_no_route_and_the_error_says_who_was_asked() {
    let (client, _sought) = seeking(Duration::from_millis(200)).await;
    let peer = PeerId::random();
    let opened = within("an error", client.endpoint.open(peer, service())).await;
    let Err(OpenError::NoRouteToDestination { peer: of, tried }) = opened else { panic!("{opened:?}") };
    assert_eq!((of, &tried[0].way), (peer, &TriedWay::Lookup(vec!["test".to_owned()])));
    let said = OpenError::NoRouteToDestination { peer, tried }.to_string();
    assert!(said.contains("looked for by test: nobody there knew"), "{said}");
}

#[tokio::test]
async fn an_impostor_at_a_hinted_address_bans_the_address_and_the_peer_is_reached_at_another() {
    let (server, impostor) = (Node::start(config(TCP)).await, Node::start(config(TCP)).await);
    server.echo().await;
    let (wrong, dials) = counted(&impostor).await;
    let (mut client, mut sought) = seeking(PATIENT).await;
    let (endpoint, peer) = (client.endpoint.clone(), server.id());
    let opening = tokio::spawn(async move { endpoint.open(peer, service()).await });
    wants(&mut sought).await;
    client.endpoint.hint(peer, vec![wrong.clone()], HintSource::ThisHost).await;
    within("the impostor's handshake", async {
        while dials.load(Ordering::SeqCst) == 0 || !is_left_out(&client, peer, &wrong).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let both = [std::slice::from_ref(&wrong), server.endpoint.listening()].concat();
    client.endpoint.hint(peer, both, HintSource::ThisHost).await;
    let stream = within("a stream", opening).await.unwrap().unwrap();
    exchange(stream, b"it is you").await;
    assert_eq!(dials.load(Ordering::SeqCst), 1, "the impostor is not dialled again");
    server.endpoint.shutdown().await;
    let closed = |event: &Event| matches!(event, Event::ConnectionClosed { .. }).then_some(());
    until(&mut client.events, "the end of the server", closed).await;
    client.endpoint.found_by(Vec::new(), Duration::ZERO).await;
    let opened = within("an error", client.endpoint.open(peer, service())).await;
    let Err(OpenError::NoRouteToDestination { tried, .. }) = opened else { panic!("{opened:?}") };
    let banned = |reason: &DialFailureReason| matches!(reason, DialFailureReason::Banned { .. });
    assert!(
        tried.iter().any(|way| way.way == TriedWay::Direct(vec![wrong.clone()]) && banned(&way.reason))
    );
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

/// Whether the address is not dialled, though somebody names it.
async fn is_left_out(client: &Node, peer: PeerId, address: &Multiaddr) -> bool {
    client.endpoint.hint(peer, vec![address.clone()], HintSource::ThisHost).await;
    let waits = client.endpoint.status().await.unwrap().waits;
    let is_dial = |awaited: &Awaited| matches!(awaited, Awaited::Dial { .. });
    waits.iter().all(|wait| wait.peer != peer || !wait.awaits.iter().any(is_dial))
}
