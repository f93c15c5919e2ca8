//! Calls end when their deadline or their caller says so, at both ends.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use crate::{
    service::{Seen, payload},
    world::{Way, World, within},
};

#[tokio::test]
async fn a_deadline_travels_with_the_call_and_ends_it_at_both_ends() {
    let mut world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let mut request = Request::new(payload(1, 0));
    request.set_timeout(Duration::from_millis(200));
    let status = within("the deadline", client.wait(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    match world.server.seen().await {
        Seen::Waiting(Some(timeout)) => assert_eq!(timeout, "200000u"),
        seen => panic!("the server saw {seen:?}"),
    }
    assert!(matches!(world.server.seen().await, Seen::Ended));
    within("a call after it", client.echo(payload(2, 0))).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_is_dropped_by_its_handler_too() {
    let mut world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.wait(payload(1, 0)).await });
    assert!(matches!(world.server.seen().await, Seen::Waiting(None)));
    call.abort();
    assert!(matches!(world.server.seen().await, Seen::Ended));
    within("a call after it", client.echo(payload(2, 0))).await.unwrap();
}

#[tokio::test]
async fn a_conversation_that_is_dropped_is_dropped_by_its_handler_too() {
    let mut world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let (questions, asked) = mpsc::channel(1);
    let call = client.converse(ReceiverStream::new(asked));
    let mut answers = within("the call", call).await.unwrap().into_inner();
    questions.send(payload(1, 0)).await.unwrap();
    assert_eq!(within("an answer", answers.message()).await.unwrap(), Some(crate::proto::Payload {
        number: 2,
        body: Vec::new(),
    }));
    // The client's side is still open: only the cancellation can end the handler.
    drop(answers);
    assert!(matches!(world.server.seen().await, Seen::Ended));
    drop(questions);
}
