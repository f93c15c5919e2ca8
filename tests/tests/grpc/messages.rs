//! Metadata, trailers, errors, compression and size arrive as they were sent.

use tonic::{Code, Request, codec::CompressionEncoding::Gzip, metadata::MetadataValue};

use crate::{
    proto::CountRequest,
    service::{BODY_BYTES_MAX, FAILURE, MESSAGE_BYTES_MAX, metadata, payload},
    world::{Way, World, test_client, within},
};

#[tokio::test]
async fn metadata_comes_back_byte_for_byte_text_and_binary() {
    let world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let blob: Vec<u8> = (0..=255).collect();
    let mut request = Request::new(payload(1, 0));
    request.metadata_mut().insert("x-text", "some text".parse().unwrap());
    request.metadata_mut().insert_bin("x-blob-bin", MetadataValue::from_bytes(&blob));
    let answer = within("the call", client.echo(request)).await.unwrap();
    assert_eq!(answer.metadata().get("x-text").unwrap(), "some text");
    assert_eq!(answer.metadata().get_bin("x-blob-bin").unwrap().to_bytes().unwrap(), blob);
}

#[tokio::test]
async fn trailers_follow_the_last_message() {
    let world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let request = CountRequest { messages: 3, body_bytes: 10 };
    let mut answers = within("the call", client.count(request)).await.unwrap().into_inner();
    for number in 0..3 {
        let message = within("a message", answers.message()).await.unwrap();
        assert_eq!(message, Some(payload(number, 10)));
    }
    assert_eq!(within("the end", answers.message()).await.unwrap(), None);
    let trailers = within("the trailers", answers.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers.get("x-count").unwrap(), "3");
    assert_eq!(trailers.get_bin("x-blob-bin"), metadata(3).get_bin("x-blob-bin"));
}

#[tokio::test]
async fn an_error_keeps_its_code_message_details_and_metadata() {
    let world = World::new(Way::Tcp).await;
    let mut client = world.test_client().await;
    let status = within("the call", client.fail(payload(42, 0))).await.unwrap_err();
    assert_eq!((status.code(), status.message(), status.details()), FAILURE);
    assert_eq!(status.metadata().get("x-count").unwrap(), "42");
    assert_eq!(status.metadata().get_bin("x-blob-bin"), metadata(42).get_bin("x-blob-bin"));
}

#[tokio::test]
async fn gzip_shrinks_what_is_sent_in_either_direction_when_it_is_asked_for() {
    let bytes = 4 << 20;
    // A body of one repeated byte shrinks a thousandfold; this leaves room for HTTP/2's own frames.
    let small = bytes / 20;
    for (send, accept) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::new(Way::Tcp).await;
        let (channel, mut streams) = world.watched_channel();
        let mut client = test_client(channel);
        if send {
            client = client.send_compressed(Gzip);
        }
        if accept {
            client = client.accept_compressed(Gzip);
        }
        let answer = within("the call", client.echo(payload(1, bytes))).await.unwrap();
        assert_eq!(answer.metadata().contains_key("grpc-encoding"), accept);
        assert!(answer.into_inner() == payload(1, bytes));
        let facts = streams.recv().await.unwrap();
        let (sent, received) = (facts.sent_bytes() as usize, facts.received_bytes() as usize);
        assert_eq!(sent < small, send, "sent {sent} bytes");
        assert_eq!(received < small, accept, "received {received} bytes");
    }
}

#[tokio::test]
async fn a_message_of_64_mib_goes_there_and_back_over_tcp() {
    large_message(Way::Tcp).await;
}

#[tokio::test]
async fn a_message_of_64_mib_goes_there_and_back_over_quic() {
    large_message(Way::Quic).await;
}

#[tokio::test]
async fn a_message_of_64_mib_goes_there_and_back_through_a_relay() {
    large_message(Way::Relayed).await;
}

async fn large_message(way: Way) {
    let world = World::new(way).await;
    let (channel, mut streams) = world.watched_channel();
    let mut client = test_client(channel);
    let answer = within("the call", client.echo(payload(9, BODY_BYTES_MAX))).await.unwrap();
    assert!(answer.into_inner() == payload(9, BODY_BYTES_MAX), "the message differs");
    let facts = streams.recv().await.unwrap();
    assert_eq!((facts.path(), facts.moves()), (world.path(), vec![]), "all of it by {way:?}");
}

#[tokio::test]
async fn a_message_over_the_limit_of_either_end_is_an_error_and_the_channel_goes_on() {
    let world = World::new(Way::Tcp).await;
    let channel = world.channel().await;
    let mut client = test_client(channel.clone()).max_encoding_message_size(2 * MESSAGE_BYTES_MAX);
    let too_long_for_server = payload(1, MESSAGE_BYTES_MAX);
    let status = within("the call", client.echo(too_long_for_server)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    let mut client = test_client(channel).max_decoding_message_size(1_000);
    let status = within("the call", client.echo(payload(1, 1_001))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    within("a call after it", client.echo(payload(2, 10))).await.unwrap();
}
