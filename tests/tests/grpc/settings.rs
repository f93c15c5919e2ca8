//! Both ends announce the same HTTP/2 settings. Read off the wire, since HTTP/2 libraries keep what the
//! peer announced to themselves.

use std::collections::HashMap;

use punchline_bridge::{
    Stream,
    grpc::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Way, World, service, within};

// RFC 9113, sections 3.4, 6.5, 6.5.2, 6.9 and 6.9.2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const CONNECTION_WINDOW_AT_FIRST: u32 = 65_535;

#[tokio::test]
async fn the_server_announces_the_frame_and_window_sizes() {
    let world = World::new(Way::Tcp).await;
    let mut stream = world.client.open(world.server.node.peer_id(), service()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(within("the settings", announced(&mut stream)).await, expected());
}

#[tokio::test]
async fn the_client_announces_the_same_sizes() {
    let world = World::new(Way::Tcp).await;
    let mut incoming = world.server.node.incoming("raw".parse().unwrap()).await.unwrap();
    let peer = world.server.node.peer_id();
    let connector =
        punchline_bridge::grpc::Connector::new(world.client.clone(), peer, "raw".parse().unwrap());
    let channel = punchline_bridge::grpc::client(&peer).connect_with_connector_lazy(connector);
    let call = tokio::spawn(async move {
        crate::world::test_client(channel).echo(crate::service::payload(1, 0)).await
    });
    let mut stream = within("a stream", incoming.next()).await.unwrap();
    let mut preface = [0; PREFACE.len()];
    within("the preface", stream.read_exact(&mut preface)).await.unwrap();
    assert_eq!(preface, PREFACE);
    assert_eq!(within("the settings", announced(&mut stream)).await, expected());
    call.abort();
}

/// What an end says of itself before anything else.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    frame_bytes_max: u32,
    stream_window_bytes: u32,
    connection_window_bytes: u32,
}

fn expected() -> Announced {
    Announced {
        frame_bytes_max: FRAME_BYTES_MAX,
        stream_window_bytes: STREAM_WINDOW_BYTES,
        connection_window_bytes: CONNECTION_WINDOW_BYTES,
    }
}

async fn announced(stream: &mut Stream) -> Announced {
    let mut settings = HashMap::new();
    let mut connection_window_bytes = None;
    loop {
        if let (Some(frame_bytes_max), Some(stream_window_bytes), Some(connection_window_bytes)) = (
            settings.get(&MAX_FRAME_SIZE).copied(),
            settings.get(&INITIAL_WINDOW_SIZE).copied(),
            connection_window_bytes,
        ) {
            return Announced { frame_bytes_max, stream_window_bytes, connection_window_bytes };
        }
        let (kind, flags, http_stream, body) = frame(stream).await;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                settings.extend(
                    body.chunks_exact(6)
                        .map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), u32_of(&entry[2..]))),
                );
            }
            WINDOW_UPDATE if http_stream == 0 => {
                connection_window_bytes = Some(CONNECTION_WINDOW_AT_FIRST + u32_of(&body));
            }
            _ => {}
        }
    }
}

/// Type, flags, HTTP/2 stream and body of the next frame.
async fn frame(stream: &mut Stream) -> (u8, u8, u32, Vec<u8>) {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.unwrap();
    (header[3], header[4], u32_of(&header[5..]), body)
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
