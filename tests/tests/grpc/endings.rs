//! Peers come back, die in the middle of a call, or end in order; a channel tells them apart and goes on.

use std::error::Error;

use punchline_bridge::{Event, error::OpenError, grpc::Faults};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    proto::test_client::TestClient,
    service::{Seen, payload},
    world::{Process, Serving, Way, World, event, within},
};

/// Calls that may fail between the restart of a peer and the first that works: the one that finds the
/// old stream dead, and one more for a connection that dies while the stream is being opened.
const FAILED_CALLS_MAX: usize = 2;

#[tokio::test]
async fn a_channel_works_again_after_the_peer_restarted_over_tcp() {
    restart(Way::Tcp).await;
}

#[tokio::test]
async fn a_channel_works_again_after_the_peer_restarted_over_quic() {
    restart(Way::Quic).await;
}

async fn restart(way: Way) {
    let mut process = Process::new();
    let mut world = World::with(way, way.config(), process.handle()).await;
    let mut events = world.client.events();
    let mut client = TestClient::new(Faults::new(world.channel().await));
    for _ in 0..3 {
        within("a call", client.echo(payload(1, 0))).await.unwrap();
        let mut config = way.config();
        config.listen = world.server.node.listening().to_vec();
        within("the server's end", world.server.node.shutdown()).await;
        process.end().await;
        let peer = world.server.node.peer_id();
        event(&mut events, |event| match event {
            Event::ConnectionClosed { peer: gone, .. } if *gone == peer => Some(()),
            _ => None,
        })
        .await;
        process = Process::new();
        world.server = Serving::start(config, &process.handle()).await;
        let mut failed = 0;
        while let Err(status) = within("a call after it", client.echo(payload(2, 0))).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            failed += 1;
            assert!(failed <= FAILED_CALLS_MAX, "{failed} calls failed, the last with {status:?}");
        }
    }
}

#[tokio::test]
async fn while_the_peer_is_away_a_call_is_unavailable_and_says_why() {
    let world = World::new(Way::Tcp).await;
    let mut events = world.client.events();
    let mut client = TestClient::new(Faults::new(world.channel().await));
    within("a call", client.echo(payload(1, 0))).await.unwrap();
    within("the server's end", world.server.node.shutdown()).await;
    event(&mut events, |event| matches!(event, Event::ConnectionClosed { .. }).then_some(())).await;
    // The stream's end may be seen by the first call only.
    let first = within("a first call", client.echo(payload(2, 0))).await.unwrap_err();
    assert_eq!(first.code(), Code::Unavailable, "{first:?}");
    let status = within("a second call", client.echo(payload(2, 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(matches!(open_error(&status), Some(OpenError::NoRouteToDestination { .. })), "{status:?}");
}

#[tokio::test]
async fn a_peer_that_dies_in_the_middle_of_a_call_makes_it_unavailable_over_tcp() {
    die(Way::Tcp).await;
}

/// A QUIC peer that dies says nothing: only its silence tells.
#[tokio::test]
async fn a_peer_that_dies_in_the_middle_of_a_call_makes_it_unavailable_over_quic() {
    die(Way::Quic).await;
}

#[tokio::test]
async fn a_peer_that_dies_in_the_middle_of_a_call_makes_it_unavailable_through_a_relay() {
    die(Way::Relayed).await;
}

async fn die(way: Way) {
    let process = Process::new();
    let mut world = World::with(way, way.config(), process.handle()).await;
    let mut client = TestClient::new(Faults::new(world.channel().await));
    let mut conversing = client.clone();
    let (questions, asked) = mpsc::channel(1);
    let call = conversing.converse(ReceiverStream::new(asked));
    let mut answers = within("a conversation", call).await.unwrap().into_inner();
    questions.send(payload(1, 0)).await.unwrap();
    assert_eq!(within("an answer", answers.message()).await.unwrap().unwrap().number, 2);
    let waiting = tokio::spawn(async move { client.wait(payload(1, 0)).await });
    assert!(matches!(world.server.seen().await, Seen::Waiting(None)));

    process.end().await;
    let status = within("the call's end", waiting).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let status = within("the conversation's end", answers.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_server_that_ends_in_order_finishes_its_conversations_and_takes_no_more() {
    let mut world = World::new(Way::Tcp).await;
    let mut events = world.client.events();
    let mut client = world.test_client().await;
    let (questions, asked) = mpsc::channel(1);
    let call = client.converse(ReceiverStream::new(asked));
    let mut answers = within("the call", call).await.unwrap().into_inner();
    world.server.drain.take().unwrap().send(()).unwrap();
    for number in 0..100 {
        questions.send(payload(number, 100)).await.unwrap();
        let answer = within("an answer", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.number, number + 1);
    }
    assert!(!world.server.task.is_finished(), "the server left a conversation behind");
    drop(questions);
    assert_eq!(within("the end", answers.message()).await.unwrap(), None);
    within("the server's end", &mut world.server.task).await.unwrap().unwrap();
    event(&mut events, |event| matches!(event, Event::StreamClosed { .. }).then_some(())).await;
    let status = within("a call after it", client.echo(payload(1, 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(matches!(open_error(&status), Some(OpenError::Refused { .. })), "{status:?}");
}

/// The bridge's own error behind a status.
fn open_error(status: &Status) -> Option<&OpenError> {
    let mut cause: Option<&dyn Error> = status.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
