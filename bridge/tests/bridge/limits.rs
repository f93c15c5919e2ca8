//! Many identities of one address at a node, and one peer that asks too much; and others beside them.

use std::{
    cell::Cell,
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use punchline_bridge::{
    Config, Event, PeerId, Request, Requests, Service,
    error::{OpenError, Refusal},
    event::{Asked, LimitOwner},
};
use tokio::sync::Notify;

use crate::world::{Node, TCP, config, pair, service, within};

const IPV6: &str = "/ip6/::1/tcp/0";

/// Identities from one address.
const CROWD: usize = 40;

/// Of 24 connections one address has 12, of 8 streams 4.
fn limited() -> Config {
    let mut limited = config(TCP);
    limited.listen.push(IPV6.parse().unwrap());
    (limited.limits.connections, limited.limits.streams_of_peers) = (24, 8);
    limited
}

/// A node at `listen` that wants a stream to `server` and waits for it.
async fn asker(server: &Node, listen: &str) -> Node {
    let node = Node::start(config(listen)).await;
    let family = if listen == IPV6 { "/ip6" } else { "/ip4" };
    let mut listening = server.endpoint.listening().iter();
    let address = listening.find(|address| address.to_string().starts_with(family)).unwrap();
    node.endpoint.add_addresses(server.id(), vec![address.clone()]).await;
    let (endpoint, to) = (node.endpoint.clone(), server.id());
    tokio::spawn(async move { endpoint.open(to, service()).await });
    node
}

/// The next request of a peer. Those of others that come first are kept, and keep their places.
async fn request_of(peer: PeerId, requests: &mut Requests, others: &mut Vec<Request>) -> Request {
    loop {
        let request = within("a request", requests.next()).await.unwrap();
        if request.peer() == peer {
            return request;
        }
        others.push(request);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_one_address_reaches_its_limits_and_others_and_familiar_peers_have_room() {
    let mut server = Node::start(limited()).await;
    let mut requests = server.endpoint.requests(service()).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(asker(&server, TCP).await);
    }
    // Who is asked about is not decided on, and so keeps its place.
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(within("a request", requests.next()).await.unwrap());
    }
    let (mut live, mut most, mut refused) = (HashSet::new(), 0, (0, 0));
    within("refusals", async {
        while refused.0 < CROWD as u64 - 12 || refused.1 == 0 {
            match server.events.next().await.unwrap() {
                Event::ConnectionOpened { connection, .. } => drop(live.insert(connection)),
                Event::ConnectionClosed { connection, .. } => drop(live.remove(&connection)),
                Event::Refused { what: Asked::Connection, limit, whose, count, .. } => {
                    assert_eq!((limit, whose), (12, Some(LimitOwner::Address)));
                    refused.0 += count;
                }
                Event::Refused { what: Asked::Stream, limit, whose, count, .. } => {
                    assert_eq!((limit, whose), (4, Some(LimitOwner::Address)));
                    refused.1 += count;
                }
                _ => {}
            }
            most = most.max(live.len());
        }
    })
    .await;
    assert_eq!(most, 12);
    let other = asker(&server, IPV6).await;
    let _waiting = request_of(other.id(), &mut requests, &mut asked).await;
    // Somebody whom the service would let in comes from the crowded address.
    let friend = Node::start(config(TCP)).await;
    server.endpoint.welcome(service(), vec![friend.id()]).await;
    let address = server.endpoint.listening()[0].clone();
    friend.endpoint.add_addresses(server.id(), vec![address]).await;
    let (endpoint, to) = (friend.endpoint.clone(), server.id());
    let opening = tokio::spawn(async move { endpoint.open(to, service()).await });
    let request = request_of(friend.id(), &mut requests, &mut asked).await;
    let _stream = within("its stream", request.accept()).await.unwrap();
    within("the same", opening).await.unwrap().unwrap();
}

/// Opens that are refused: 64 of them are answered at once, the others at 200 a second.
const REFUSED: u32 = 264;
/// Answers that are not there yet when the other peer asks, and all were asked for: whoever waits for its turn after
/// them is answered last.
const WAITED_FOR: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_on_and_on_for_what_is_not_there_hears_so_at_a_pace_and_others_at_once() {
    let (server, loud) = pair(TCP).await;
    let quiet = Node::start(config(TCP)).await;
    quiet.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    drop(quiet.open(server.id()).await);
    let nowhere: Service = "nowhere".parse().unwrap();
    let ask = |node: &Node| {
        let (endpoint, peer, nowhere) = (node.endpoint.clone(), server.id(), nowhere.clone());
        async move { endpoint.open(peer, nowhere).await }
    };
    let (began, answered, paced) = (Instant::now(), Cell::new(0), Notify::new());
    let answers = join_all((0..REFUSED).map(|_| async {
        let answer = ask(&loud).await;
        answered.set(answered.get() + 1);
        if answered.get() == REFUSED - WAITED_FOR {
            paced.notify_one();
        }
        answer
    }));
    let ((answers, last), (answer, soon)) =
        tokio::join!(async { (within("all answers", answers).await, began.elapsed()) }, async {
            within("the pace", paced.notified()).await;
            (within("an answer", ask(&quiet)).await, began.elapsed())
        });
    for answer in answers.into_iter().chain([answer]) {
        let error = answer.unwrap_err();
        assert!(matches!(error, OpenError::Refused { reason: Refusal::NotServed, .. }), "{error:?}");
    }
    assert!(last >= Duration::from_millis(5) * (REFUSED - 65), "{last:?}");
    assert!(soon < last, "who did not ask too much was answered last: after {soon:?}, not {last:?}");
}
