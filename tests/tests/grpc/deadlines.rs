//! Calls end when their deadline or their caller says so, at both ends.

use std::time::Duration;

use punchline_bridge::grpc::Faults;
use tonic::{Code, Request};

use crate::{
    proto::{CountRequest, test_client::TestClient},
    service::{Seen, payload},
    world::{Way, World, within},
};

#[tokio::test]
async fn a_deadline_travels_with_the_call_and_ends_it_at_both_ends() {
    let mut world = World::new(Way::Tcp).await;
    let mut client = TestClient::new(Faults::new(world.channel().await));
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
async fn answers_that_nobody_wants_any_more_are_not_made_any_more() {
    let mut world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let request = CountRequest { messages: u64::MAX, body_bytes: 1_000 };
    let mut answers = within("the call", client.count(request)).await.unwrap().into_inner();
    for number in 0..10 {
        let answer = within("an answer", answers.message()).await.unwrap();
        assert_eq!(answer, Some(payload(number, 1_000)));
    }
    drop(answers);
    assert!(matches!(world.server.seen().await, Seen::Ended));
    within("a call after it", client.echo(payload(2, 0))).await.unwrap();
}
