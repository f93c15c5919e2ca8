//! Streams that the program decides on, tickets, and peers that a connection is kept to.

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use punchline_bridge::{
    Endpoint, Event, OpenOptions, Request, Requests, Service, StreamId,
    error::{OpenError, Refusal},
    path::Direction,
    stream::frame::{Attached, Code, Decoder, Frame, Hello, Item, TICKET_BYTES_MAX},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attacker::{PROTOCOL, attacker};
use crate::world::{Node, PATIENCE, QUIC, TCP, config, pair, pair_with, until, within};

pub(crate) fn presenting(ticket: Bytes) -> OpenOptions {
    OpenOptions { ticket, ..OpenOptions::default() }
}

pub(crate) fn guarded() -> Service {
    "guarded".parse().unwrap()
}

pub(crate) async fn next(requests: &mut Requests) -> Request {
    within("a request", requests.next()).await.unwrap()
}

/// Opens in the background, presenting `ticket`.
pub(crate) fn opening(
    client: &Node,
    server: &Node,
    ticket: &'static [u8],
) -> tokio::task::JoinHandle<Result<punchline_bridge::Stream, OpenError>> {
    let (endpoint, peer): (Endpoint, _) = (client.endpoint.clone(), server.id());
    tokio::spawn(async move {
        endpoint.open_with(peer, guarded(), presenting(Bytes::from_static(ticket))).await
    })
}

#[tokio::test]
async fn a_request_shows_who_asks_for_what_with_which_ticket_before_it_is_answered() {
    for listen in [TCP, QUIC] {
        let (server, client) = pair(listen).await;
        let mut requests = server.endpoint.requests(guarded()).await.unwrap();
        let open = opening(&client, &server, b"let me in");
        let request = next(&mut requests).await;
        assert_eq!(request.peer(), client.id());
        assert_eq!((request.service(), &request.ticket()[..]), (&guarded(), &b"let me in"[..]));
        assert!(request.path().is_direct());
        assert!(!open.is_finished());
        let mut theirs = within("a stream", request.accept()).await.unwrap();
        let mut ours = within("an answer", open).await.unwrap().unwrap();
        ours.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        within("a word", theirs.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[tokio::test]
async fn a_refusal_is_told_as_it_was_meant_and_a_dropped_request_is_a_service_that_is_not_there() {
    let (server, mut client) = pair(TCP).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let refusals = [
        Refusal::NotServed,
        Refusal::Busy,
        Refusal::TargetRefused,
        Refusal::TargetUnreachable,
        Refusal::TicketExpired,
        Refusal::TicketUsed,
        Refusal::TicketRevoked,
    ];
    for refusal in refusals.map(Some).into_iter().chain([None]) {
        let open = opening(&client, &server, b"");
        let request = next(&mut requests).await;
        match refusal {
            Some(refusal) => request.refuse(refusal),
            None => drop(request),
        }
        let error = within("an answer", open).await.unwrap().unwrap_err();
        let expected = refusal.unwrap_or(Refusal::NotServed);
        assert!(matches!(error, OpenError::Refused { reason, .. } if reason == expected), "{error}");
        until(&mut client.events, "the refusal as an event", |event| match event {
            Event::StreamRefused { reason, direction: Direction::Outbound, .. } => {
                (*reason == expected).then_some(())
            }
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_whose_peer_has_gone_gives_no_stream_once_it_had_its_time_to_come_back() {
    let mut impatient = config(TCP);
    impatient.deadlines.negotiate = Duration::from_secs(1);
    let (mut server, client) = pair_with(impatient, config(TCP)).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let open = opening(&client, &server, b"");
    let request = next(&mut requests).await;
    client.endpoint.shutdown().await;
    open.abort();
    until(&mut server.events, "the end of the connection", |event| {
        matches!(event, Event::ConnectionClosed { .. }).then_some(())
    })
    .await;
    assert!(within("an answer", request.accept()).await.is_none());
}

/// An opener that says what it likes, each time on a substream of its own.
pub(crate) struct Asker {
    pub(crate) substreams: libp2p_stream::Control,
    pub(crate) server: punchline_bridge::PeerId,
}

impl Asker {
    pub(crate) async fn hello(
        &mut self,
        stream: u8,
        epoch: u32,
        ticket: &'static [u8],
    ) -> libp2p::Stream {
        let hello = Hello {
            stream: StreamId::from_bytes([stream; 16]),
            epoch,
            features: 0,
            limit: 1 << 16,
            service: guarded(),
            ticket: Bytes::from_static(ticket),
        };
        let mut bytes = Vec::new();
        Frame::Hello(Box::new(hello)).encode(&mut bytes);
        let opened = self.substreams.open_stream(self.server, PROTOCOL);
        let mut io = within("a substream", opened).await.unwrap();
        io.write_all(&bytes).await.unwrap();
        io.flush().await.unwrap();
        io
    }
}

/// The next frame on a substream.
pub(crate) async fn answer(io: &mut libp2p::Stream) -> Frame {
    let mut decoder = Decoder::new();
    within("an answer", async {
        loop {
            let mut byte = [0];
            io.read_exact(&mut byte).await.unwrap();
            if let Some(Item::Frame(frame)) = decoder.decode(&mut &byte[..]).unwrap() {
                return frame;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_hello_repeated_before_the_decision_is_the_same_request_and_presents_no_ticket_again() {
    let (server, _client) = pair(TCP).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let substreams = attacker(server.id(), server.endpoint.listening()[0].clone()).await;
    let mut asker = Asker { substreams, server: server.id() };

    let mut first = asker.hello(1, 1, b"once").await;
    let request = next(&mut requests).await;
    let mut late = asker.hello(1, 1, b"once").await;
    assert_eq!(answer(&mut late).await, Frame::Reset { code: Code::Stale });
    let mut second = asker.hello(1, 2, b"once").await;
    let ended = within("the end of the leg before", first.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let mut theirs = within("a stream", request.accept()).await.unwrap();
    let attached = answer(&mut second).await;
    assert!(matches!(attached, Frame::Attached(Attached { epoch: 2, received: 0, .. })), "{attached:?}");
    let mut data = Vec::new();
    Frame::Data { offset: 0, payload: Bytes::from_static(b"hello") }.encode(&mut data);
    second.write_all(&data).await.unwrap();
    second.flush().await.unwrap();
    let mut heard = [0; 5];
    within("a word", theirs.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");

    // Nothing else was asked meanwhile.
    let _another = asker.hello(2, 0, b"another").await;
    assert_eq!(&next(&mut requests).await.ticket()[..], b"another");
}

#[tokio::test]
async fn a_hello_repeated_after_a_refusal_is_refused_in_the_same_way_and_nobody_is_asked() {
    let (server, _client) = pair(TCP).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let substreams = attacker(server.id(), server.endpoint.listening()[0].clone()).await;
    let mut asker = Asker { substreams, server: server.id() };
    let mut first = asker.hello(1, 0, b"once").await;
    next(&mut requests).await.refuse(Refusal::TicketUsed);
    let used = Frame::Reset { code: Code::TicketUsed };
    assert_eq!(answer(&mut first).await, used);
    let mut second = asker.hello(1, 1, b"once").await;
    assert_eq!(answer(&mut second).await, used);
    let _another = asker.hello(2, 0, b"another").await;
    assert_eq!(&next(&mut requests).await.ticket()[..], b"another");
}

#[tokio::test]
async fn a_ticket_that_is_too_long_is_not_sent() {
    let (server, client) = pair(TCP).await;
    let ticket = Bytes::from(vec![0; TICKET_BYTES_MAX + 1]);
    let error = client.endpoint.open_with(server.id(), guarded(), presenting(ticket)).await.unwrap_err();
    assert!(matches!(error, OpenError::Ticket { length, limit } if length > limit));
}

#[tokio::test]
async fn a_stream_can_be_ended_with_a_reason_while_its_halves_are_in_use() {
    let (server, client) = pair(TCP).await;
    let mut requests = server.endpoint.requests(guarded()).await.unwrap();
    let open = opening(&client, &server, b"");
    let theirs = next(&mut requests).await.accept().await.unwrap();
    let mut ours = within("an answer", open).await.unwrap().unwrap();
    theirs.reset(Code::Revoked);
    let error = within("the end", ours.read(&mut [0; 8])).await.unwrap_err();
    assert!(error.to_string().contains("Revoked"), "{error}");
}

#[tokio::test]
async fn a_connection_to_a_held_peer_is_there_before_it_is_needed_and_comes_back_with_the_peer() {
    let (server, mut client) = pair(TCP).await;
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    drop(server);
    let server = Node::start_as(config(TCP), keypair.clone()).await;
    let address = server.endpoint.listening()[0].clone();
    client.endpoint.add_addresses(peer, vec![address.clone()]).await;
    client.endpoint.hold(peer).await;
    let opened = |event: &Event| match event {
        Event::ConnectionOpened { peer: other, .. } => (*other == peer).then_some(()),
        _ => None,
    };
    until(&mut client.events, "a connection", opened).await;
    server.endpoint.shutdown().await;
    until(&mut client.events, "that it is away", |event| match event {
        Event::PeerUnreachable { peer: other, failures, reason, .. } => {
            assert!(reason.to_string().contains("refused"), "{reason}");
            (*other == peer && *failures >= 2).then_some(())
        }
        _ => None,
    })
    .await;
    let again = tokio::time::timeout(PATIENCE, async {
        let mut config = config(TCP);
        config.listen = vec![address];
        Node::start_as(config, keypair).await
    });
    let _again = again.await.unwrap();
    until(&mut client.events, "a connection again", opened).await;
}
