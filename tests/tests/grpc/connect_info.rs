//! A handler knows who calls, and both ends say the same of the stream between them.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
};

use futures::FutureExt;
use punchline_bridge::{
    Config, Event, Events, Path, StreamId, config::Upgrades, grpc::ConnectInfo, path::Direction,
};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    service::{Seen, payload},
    world::{Way, World, event, loopback_is_global, service, test_client, within},
};

#[tokio::test]
async fn both_ends_know_the_same_of_a_stream_and_a_peer_keeps_its_address_on_every_way() {
    let mut addresses = Vec::new();
    for way in [Way::Tcp, Way::Quic, Way::Relayed] {
        addresses.push(agree(way).await);
    }
    assert_eq!(addresses[0], addresses[1]);
    assert_eq!(addresses[0], addresses[2]);
    let IpAddr::V6(ip) = addresses[0].ip() else { panic!("{} is not IPv6", addresses[0]) };
    assert_eq!(ip.segments()[..3], [0xfd50, 0x756e, 0x6368]);
    assert_ne!(addresses[0].port(), 0);
}

/// Compares what both ends say, and returns the caller's socket address.
async fn agree(way: Way) -> SocketAddr {
    let mut world = World::new(way).await;
    let (channel, mut streams) = world.watched_channel();
    let mut client = test_client(channel);
    within("a call", client.echo(payload(1, 0))).await.unwrap();
    let ours = streams.recv().await.unwrap();
    let theirs = called(&mut world).await;
    assert_eq!(theirs.peer(), world.client.peer_id());
    assert_eq!(ours.peer, world.server.node.peer_id());
    assert_eq!(theirs.stream(), ours.stream);
    assert_eq!((theirs.service(), &ours.service), (&service(), &service()));
    assert_eq!((theirs.path_at_open(), ours.path()), (world.path(), world.path()), "{way:?}");
    assert_eq!((theirs.path(), theirs.relay()), (world.path(), world.path().relay()));
    assert_eq!(ours.direction, Direction::Outbound);
    assert_eq!(ours.route().address.to_string().contains("quic"), way == Way::Quic);
    assert_eq!(theirs.remote_address().to_string().contains("quic"), way == Way::Quic);
    within("another call", client.echo(payload(2, 0))).await.unwrap();
    let again = called(&mut world).await;
    assert_eq!((again.stream(), again.socket_addr()), (theirs.stream(), theirs.socket_addr()));
    theirs.socket_addr()
}

#[tokio::test]
async fn a_conversation_begun_through_the_relay_goes_on_directly_and_no_answer_is_missing() {
    let (global, upgrades) = (loopback_is_global(), Upgrades::AtOnce);
    let config = Config { global, upgrades, ..Way::Relayed.config() };
    let mut world = World::with(Way::Relayed, config, Handle::current()).await;
    let (mut here, mut there) = (world.client.events(), world.server.node.events());
    let mut client = world.test_client().await;
    within("a call", client.echo(payload(0, 0))).await.unwrap();
    let connection = called(&mut world).await;
    let (relayed, mut path) = (connection.path_at_open(), connection.facts().watch());
    assert_eq!(relayed, world.path());
    let mut conversing = client.clone();
    let (questions, asked) = mpsc::channel(1);
    let call = conversing.converse(ReceiverStream::new(asked));
    let mut answers = within("the call", call).await.unwrap().into_inner();
    let (mut moved, mut after) =
        (pin!(async { tokio::join!(move_of(&mut here), move_of(&mut there)) }), 0);
    let mut seen = None;
    for number in 0.. {
        questions.send(payload(number, 1_000)).await.unwrap();
        let answer = within("an answer", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.number, number + 1);
        seen = seen.or_else(|| moved.as_mut().now_or_never());
        after += u32::from(seen.is_some());
        if after == 100 {
            break;
        }
    }
    let expected = (connection.stream(), relayed, Path::Direct);
    assert_eq!(seen, Some((expected, expected)));
    assert_eq!((connection.path(), connection.relay()), (Path::Direct, None));
    assert_eq!(path.borrow_and_update().path, Path::Direct);
    let [record] = &connection.facts().moves()[..] else { panic!("{connection:?}") };
    println!("from {} to {}: a gap of {:?}", record.from, record.to, record.gap);
    within("a call", client.echo(payload(1, 0))).await.unwrap();
    assert_eq!(called(&mut world).await.stream(), connection.stream(), "still the same stream");
}

/// The next move: of which stream, from where to where.
async fn move_of(events: &mut Events) -> (StreamId, Path, Path) {
    event(events, |event| match event {
        Event::StreamMoved { stream, from, to, .. } => Some((*stream, *from, *to)),
        _ => None,
    })
    .await
}

async fn called(world: &mut World) -> ConnectInfo {
    match world.server.seen().await {
        Seen::Called(connection) => connection,
        seen => panic!("the server saw {seen:?}"),
    }
}
