//! What a stream does between its opening and its end.

use punchline_bridge::{Event, Events, event::StreamEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{
    Node, QUIC, QUIC6, TCP, TCP6, config, exchange, pair, relay_config, service, through_a_relay_with,
    unpunchable, until, within,
};

/// How the next stream ended, and its bytes: sent direct and relayed, received direct and relayed.
async fn closed(events: &mut Events) -> (StreamEnd, [u64; 4]) {
    until(events, "the end of a stream", |event| match event {
        Event::StreamClosed {
            cause,
            sent_direct_bytes,
            sent_relayed_bytes,
            received_direct_bytes,
            received_relayed_bytes,
            ..
        } => Some((
            *cause,
            [*sent_direct_bytes, *sent_relayed_bytes, *received_direct_bytes, *received_relayed_bytes],
        )),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn bytes_come_back_whole_over_tcp_and_quic_and_both_families() {
    let message: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for listen in [TCP, QUIC, TCP6, QUIC6] {
        let (server, client) = pair(listen).await;
        let stream = client.open(server.id()).await;
        let (mut read, mut write) = tokio::io::split(stream);
        let send = async {
            write.write_all(&message).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        within(listen, async { tokio::join!(send, read.read_to_end(&mut back)).1.unwrap() }).await;
        assert!(back == message, "{listen}: {} of {} bytes", back.len(), message.len());
    }
}

async fn each_direction_closes_by_itself(listen: &str) {
    let server = Node::start(config(listen)).await;
    let mut incoming = server.endpoint.incoming(service()).await.unwrap();
    let client = Node::start(config(listen)).await;
    client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    for opener_first in [true, false] {
        let near = client.open(server.id()).await;
        let far = within("the stream", incoming.next()).await.unwrap();
        assert_eq!(near.facts().stream, far.facts().stream);
        let (mut first, mut second) = if opener_first { (near, far) } else { (far, near) };
        let mut text = String::new();
        within("a half-close", async {
            first.write_all(b"question").await.unwrap();
            first.shutdown().await.unwrap();
            second.read_to_string(&mut text).await.unwrap();
            second.write_all(b" and answer").await.unwrap();
            second.shutdown().await.unwrap();
            first.read_to_string(&mut text).await.unwrap();
        })
        .await;
        assert_eq!(text, "question and answer");
    }
}

#[tokio::test]
async fn each_direction_closes_by_itself_over_tcp() {
    each_direction_closes_by_itself(TCP).await;
}

#[tokio::test]
async fn each_direction_closes_by_itself_over_quic() {
    each_direction_closes_by_itself(QUIC).await;
}

#[tokio::test]
async fn a_dropped_stream_is_reset_at_the_peer() {
    for listen in [TCP, QUIC] {
        let server = Node::start(config(listen)).await;
        let mut incoming = server.endpoint.incoming(service()).await.unwrap();
        let mut client = Node::start(config(listen)).await;
        client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
        let near = client.open(server.id()).await;
        let mut far = within("the stream", incoming.next()).await.unwrap();
        drop(near);
        let mut rest = Vec::new();
        let error = within("the end", far.read_to_end(&mut rest)).await.unwrap_err();
        assert_eq!((error.kind(), &rest[..]), (std::io::ErrorKind::ConnectionReset, &b""[..]));
        assert_eq!(closed(&mut client.events).await, (StreamEnd::Dropped, [0; 4]));
    }
}

#[tokio::test]
async fn the_end_of_a_stream_tells_its_bytes_by_path() {
    let (mut server, mut client) = pair(TCP).await;
    exchange(client.open(server.id()).await, &[7; 1000]).await;
    assert_eq!(closed(&mut client.events).await, (StreamEnd::Finished, [1000, 0, 1000, 0]));
    assert_eq!(closed(&mut server.events).await, (StreamEnd::Finished, [1000, 0, 1000, 0]));

    let relayed = through_a_relay_with(relay_config(TCP), unpunchable(TCP)).await;
    let (_relay, mut server, mut client) = relayed;
    exchange(client.open(server.id()).await, &[7; 1000]).await;
    assert_eq!(closed(&mut client.events).await, (StreamEnd::Finished, [0, 1000, 0, 1000]));
    assert_eq!(closed(&mut server.events).await, (StreamEnd::Finished, [0, 1000, 0, 1000]));
}
