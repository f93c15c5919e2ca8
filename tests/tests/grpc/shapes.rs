//! Every shape of call works over every way to a peer.

use futures::{StreamExt, future::try_join_all, stream};
use punchline_bridge::grpc::STREAM_WINDOW_BYTES;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    proto::CountRequest,
    service::{MEETING, payload},
    world::{Way, World, within},
};

/// Rounds of a conversation.
const ROUNDS: u64 = 1_000;

/// What may wait between two ends besides HTTP/2's window: the muxer's window, and a frame here and there.
const BUFFERED_BYTES_MAX: u64 = 8 << 20;

#[tokio::test]
async fn all_four_shapes_of_call_work_over_tcp() {
    four_shapes(Way::Tcp).await;
}

#[tokio::test]
async fn all_four_shapes_of_call_work_over_quic() {
    four_shapes(Way::Quic).await;
}

#[tokio::test]
async fn all_four_shapes_of_call_work_through_a_relay() {
    four_shapes(Way::Relayed).await;
}

async fn four_shapes(way: Way) {
    let world = World::new(way).await;
    let mut client = world.test_client().await;
    let answer = within("unary", client.echo(payload(7, 100))).await.unwrap();
    assert_eq!(answer.into_inner(), payload(7, 100));

    let numbers = stream::iter((1..=100).map(|number| payload(number, 1_000)));
    let answer = within("client streaming", client.sum(numbers)).await.unwrap();
    assert_eq!(answer.into_inner().number, 5_050);

    let request = CountRequest { messages: 100, body_bytes: 1_000 };
    let answers = within("server streaming", client.count(request)).await.unwrap().into_inner();
    let answers: Vec<_> = within("its messages", answers.map(Result::unwrap).collect()).await;
    assert_eq!(answers, (0..100).map(|number| payload(number, 1_000)).collect::<Vec<_>>());

    let questions = stream::iter((0..100).map(|number| payload(number, 1_000)));
    let answers = within("both streaming", client.converse(questions)).await.unwrap().into_inner();
    let answers: Vec<_> =
        within("its messages", answers.map(|answer| answer.unwrap().number).collect()).await;
    assert_eq!(answers, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_waits_for_each_answer_gets_it_over_tcp() {
    converse(Way::Tcp).await;
}

#[tokio::test]
async fn a_client_that_waits_for_each_answer_gets_it_over_quic() {
    converse(Way::Quic).await;
}

#[tokio::test]
async fn a_client_that_waits_for_each_answer_gets_it_through_a_relay() {
    converse(Way::Relayed).await;
}

/// The client keeps its side open all the while: a transport that sends a request to its end before it
/// looks for an answer would wait for ever.
async fn converse(way: Way) {
    let world = World::new(way).await;
    let mut client = world.test_client().await;
    let (questions, asked) = mpsc::channel(1);
    let call = client.converse(ReceiverStream::new(asked));
    let mut answers = within("the call", call).await.unwrap().into_inner();
    within(format!("{ROUNDS} rounds"), async {
        for number in 0..ROUNDS {
            questions.send(payload(number, 32)).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.number, number + 1);
        }
    })
    .await;
    drop(questions);
    assert_eq!(within("the end", answers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn two_hundred_calls_share_one_channel_at_the_same_time() {
    let world = World::new(Way::Tcp).await;
    let (channel, mut streams) = world.watched_channel();
    let calls = (0..MEETING as u64).map(|number| {
        let mut client = crate::world::test_client(channel.clone());
        async move { Ok::<_, tonic::Status>(client.meet(payload(number, 10_000)).await?.into_inner()) }
    });
    // Nobody is answered before all have arrived.
    let answers = within("the meeting", try_join_all(calls)).await.unwrap();
    assert_eq!(answers, (0..MEETING as u64).map(|number| payload(number, 10_000)).collect::<Vec<_>>());
    streams.recv().await.unwrap();
    assert!(streams.try_recv().is_err(), "more than one stream was opened");
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_up_nobody_over_tcp() {
    slow_reader(Way::Tcp).await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_up_nobody_over_quic() {
    slow_reader(Way::Quic).await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_up_nobody_through_a_relay() {
    slow_reader(Way::Relayed).await;
}

async fn slow_reader(way: Way) {
    let body_bytes = 64 * 1024;
    let messages = 512;
    let mut world = World::new(way).await;
    let mut client = world.test_client().await;
    let request = CountRequest { messages, body_bytes };
    let mut slow = within("the call", client.count(request)).await.unwrap().into_inner();

    // The sender fills the window, less one message that may not fit any more, and then waits for us.
    let window = u64::from(STREAM_WINDOW_BYTES) / body_bytes;
    within("a full window", world.server.counted.wait_for(|count| *count >= window - 1)).await.unwrap();
    for number in 0..50 {
        within("a call beside it", client.echo(payload(number, 10_000))).await.unwrap();
    }
    let ahead_max = window + BUFFERED_BYTES_MAX / body_bytes;
    for number in 0..messages {
        let ahead = *world.server.counted.borrow() - number;
        assert!(ahead <= ahead_max, "the sender is {ahead} messages ahead of its reader");
        let message = within("a message", slow.message()).await.unwrap().unwrap();
        assert!(message == payload(number, body_bytes as usize), "message {number} differs");
    }
    assert_eq!(within("the end", slow.message()).await.unwrap(), None);
}
