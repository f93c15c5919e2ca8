//! A HELLO that is not answered on its first leg: one stream, and one request to the program at the other end.

use std::time::Duration;

use libp2p::identity::Keypair;
use punchline_bridge::{
    Event, Events, Path, Requests,
    path::{ConnectionId, Direction},
    stream::frame::{Attached, Code, Frame},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    attacker::attacker_as,
    requests::{Asker, answer, guarded, next, opening},
    upgrade::upgraded,
    world::{Node, QUIC, TCP, config, pair, relay_config, through_a_relay_with, until, within},
};

/// The next connection that opens.
async fn connected(events: &mut Events) -> ConnectionId {
    until(events, "a connection", |event| match event {
        Event::ConnectionOpened { connection, .. } => Some(*connection),
        _ => None,
    })
    .await
}

async fn closed(events: &mut Events, which: ConnectionId) {
    until(events, "the end of a connection", |event| match event {
        Event::ConnectionClosed { connection, .. } => (*connection == which).then_some(()),
        _ => None,
    })
    .await;
}

/// Nobody else is asked for: what is opened next comes next.
async fn nothing_else_was_asked(requests: &mut Requests, client: &Node, server: &Node) {
    let open = opening(client, server, b"another");
    let request = next(requests).await;
    assert_eq!(&request.ticket()[..], b"another");
    within("a stream", request.accept()).await.unwrap();
    within("an answer", open).await.unwrap().unwrap();
}

/// The first connection ends while the program has not decided, and the client makes another one.
async fn an_undecided_request_outlives_its_connection(listen: &str) {
    let (mut server, mut client) = pair(listen).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let open = opening(&client, &server, b"once");
    let request = next(&mut requests).await;
    assert_eq!(&request.ticket()[..], b"once");
    let (near, far) = (connected(&mut client.events).await, connected(&mut server.events).await);
    server.endpoint.close(far).await;
    closed(&mut client.events, near).await;
    let second = connected(&mut client.events).await;

    let mut theirs = within("a stream", request.accept()).await.unwrap();
    let mut ours = within("an answer", open).await.unwrap().unwrap();
    assert_eq!(ours.facts().route().connection, second);
    ours.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    within("a word", theirs.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    nothing_else_was_asked(&mut requests, &client, &server).await;
    // To the world it has opened where it was answered, and not moved there.
    until(&mut client.events, "that it is open", |event| match event {
        Event::StreamMoved { .. } => panic!("{event:?}"),
        Event::StreamOpened { service, direction: Direction::Outbound, .. } => {
            (*service == guarded()).then_some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn an_open_whose_connection_ends_before_the_answer_is_the_same_request_on_the_next_over_tcp() {
    an_undecided_request_outlives_its_connection(TCP).await;
}

#[tokio::test]
async fn an_open_whose_connection_ends_before_the_answer_is_the_same_request_on_the_next_over_quic() {
    an_undecided_request_outlives_its_connection(QUIC).await;
}

#[tokio::test]
async fn with_a_relayed_connection_beside_the_direct_one_an_open_goes_on_over_it() {
    let mut patient = config(TCP);
    // No stream uses the relayed connection soon, and still it is there.
    patient.deadlines.relayed_grace = Duration::from_secs(3600);
    let (relay, server, mut client) = through_a_relay_with(relay_config(TCP), patient).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let first = client.open(server.id()).await;
    upgraded(&mut client.events, server.id()).await;
    until(&mut client.events, "that the first stream is direct", |event| match event {
        Event::StreamMoved { to: Path::Direct, .. } => Some(()),
        _ => None,
    })
    .await;
    let open = opening(&client, &server, b"once");
    let request = next(&mut requests).await;
    assert!(request.path().is_direct());
    client.endpoint.close(first.facts().route().connection).await;
    until(&mut client.events, "that the first stream is back", |event| match event {
        Event::StreamMoved { to, .. } => {
            (*to == Path::Relayed { relay: relay.relay.peer_id() }).then_some(())
        }
        _ => None,
    })
    .await;
    within("a stream", request.accept()).await.unwrap();
    within("an answer", open).await.unwrap().unwrap();
    nothing_else_was_asked(&mut requests, &client, &server).await;
}

#[tokio::test]
async fn a_request_that_nobody_decided_on_in_time_is_refused_in_the_same_way_when_it_is_repeated() {
    let mut impatient = config(TCP);
    impatient.deadlines.negotiate = Duration::from_secs(1);
    let server = Node::start(impatient).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let keypair = Keypair::generate_ed25519();
    let substreams = attacker_as(keypair, server.id(), server.endpoint.listening()[0].clone()).await;
    let mut asker = Asker { substreams, server: server.id() };
    let mut first = asker.hello(1, 0, b"once").await;
    let _undecided = next(&mut requests).await;
    let busy = Frame::Reset { code: Code::Busy };
    assert_eq!(answer(&mut first).await, busy);
    let mut second = asker.hello(1, 1, b"once").await;
    assert_eq!(answer(&mut second).await, busy);
    let _another = asker.hello(2, 0, b"another").await;
    assert_eq!(&next(&mut requests).await.ticket()[..], b"another");
}

#[tokio::test]
async fn what_is_accepted_while_its_opener_is_away_is_there_when_it_asks_again() {
    let mut server = Node::start(config(TCP)).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let (keypair, address) = (Keypair::generate_ed25519(), server.endpoint.listening()[0].clone());
    let id = server.id();
    let come = async || {
        let substreams = attacker_as(keypair.clone(), id, address.clone()).await;
        Asker { substreams, server: id }
    };
    let _first = come().await.hello(1, 0, b"once").await;
    let request = next(&mut requests).await;
    let connection = connected(&mut server.events).await;
    server.endpoint.close(connection).await;
    closed(&mut server.events, connection).await;
    let accepting = tokio::spawn(request.accept());
    let mut again = come().await.hello(1, 1, b"once").await;
    let attached = answer(&mut again).await;
    assert!(matches!(attached, Frame::Attached(Attached { epoch: 1, received: 0, .. })), "{attached:?}");
    assert!(within("a stream", accepting).await.unwrap().is_some());
}
