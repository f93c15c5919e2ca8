#![allow(clippy::unwrap_used)]
use std::pin::pin;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join, poll};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream, rustls::crypto::cipher::AeadKey};
use libp2p::identity::Keypair;
use tokio::io::DuplexStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;
use crate::net::{
    lent::BUFFER_BYTES,
    secure::{handshake, tls::Tls},
};

type Io = Compat<DuplexStream>;

/// Records that a key is good for where it matters.
const LIMIT: u64 = 40;

fn pipe(bytes: usize) -> (Io, Io) {
    let (near, far) = tokio::io::duplex(bytes);
    (near.compat(), far.compat())
}

fn nobody() -> rustls::pki_types::ServerName<'static> {
    rustls::pki_types::ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

fn tls() -> Tls {
    Tls::new(&Keypair::generate_ed25519()).unwrap()
}

/// Which end is ours; the other one is rustls' alone.
#[derive(Clone, Copy, Debug)]
enum Ours {
    Client,
    Server,
}

async fn beside_rustls(ours: Ours, pipe_bytes: usize) -> (Records<Io>, TlsStream<Io>) {
    let (a, b) = pipe(pipe_bytes);
    let (near, far) = (tls(), tls());
    match ours {
        Ours::Client => {
            let near = handshake::connect(near.client().unwrap().0, nobody(), ReadAhead::new(a));
            let far = TlsAcceptor::from(far.server().unwrap().0);
            let (near, far) = join(near, far.accept(b)).await;
            (near.unwrap(), far.unwrap().into())
        }
        Ours::Server => {
            let near = handshake::accept(near.server().unwrap().0, ReadAhead::new(a));
            let far = TlsConnector::from(far.client().unwrap().0);
            let (near, far) = join(near, far.connect(nobody(), b)).await;
            (near.unwrap(), far.unwrap().into())
        }
    }
}

fn some(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

/// Sends and reads all of it, in pieces of this size.
async fn passes<A, B>(from: &mut A, to: &mut B, bytes: usize, piece: usize)
where
    A: AsyncWrite + Unpin,
    B: AsyncRead + Unpin,
{
    let (sent, mut got) = (some(bytes), vec![0; bytes]);
    let writes = async {
        for part in sent.chunks(piece) {
            from.write_all(part).await.unwrap();
        }
        from.flush().await.unwrap();
    };
    let reads = async {
        for part in got.chunks_mut(piece) {
            to.read_exact(part).await.unwrap();
        }
    };
    join(writes, reads).await;
    assert!(got == sent, "{bytes} bytes in pieces of {piece}");
}

#[tokio::test]
async fn rustls_reads_what_is_written_and_is_read_whatever_the_sizes() {
    for ours in [Ours::Client, Ours::Server] {
        for pipe_bytes in [77, 20_000, 1 << 20] {
            let (mut near, mut far) = beside_rustls(ours, pipe_bytes).await;
            for bytes in [1, DATA_BYTES_MAX - 1, DATA_BYTES_MAX, DATA_BYTES_MAX + 1, 65_524, 300_000] {
                for piece in [bytes, 12.max(bytes / 7), 5_000] {
                    passes(&mut near, &mut far, bytes, piece).await;
                    passes(&mut far, &mut near, bytes, piece).await;
                }
            }
            assert!(!near.writing.holds_a_buffer(), "of a connection on which nothing waits");
            let mut nothing = [0; 1];
            assert!(poll!(near.read(&mut nothing)).is_pending());
            assert_eq!(near.reading.holds(), (false, 0));
        }
    }
}

#[tokio::test]
async fn keys_are_changed_where_either_end_wants_it() {
    for ours in [Ours::Client, Ours::Server] {
        let (mut near, mut far) = beside_rustls(ours, 1 << 20).await;
        near.writing.limit_is(LIMIT);
        for _ in 0..3 {
            // More records than a key is good for.
            passes(&mut near, &mut far, 60 * DATA_BYTES_MAX, DATA_BYTES_MAX).await;
            assert!(near.writing.used() < LIMIT);
            match &mut far {
                TlsStream::Client(far) => far.get_mut().1.refresh_traffic_keys().unwrap(),
                TlsStream::Server(far) => far.get_mut().1.refresh_traffic_keys().unwrap(),
            }
            passes(&mut far, &mut near, 100_000, 10_000).await;
            passes(&mut near, &mut far, 100_000, 10_000).await;
        }
    }
}

#[tokio::test]
async fn each_end_learns_that_the_other_ended_and_what_is_cut_off_is_no_end() {
    for ours in [Ours::Client, Ours::Server] {
        let (mut near, mut far) = beside_rustls(ours, 1 << 20).await;
        near.write_all(b"last words").await.unwrap();
        near.close().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
        assert_eq!(near.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        // The other direction goes on.
        passes(&mut far, &mut near, 1_000, 1_000).await;
        far.close().await.unwrap();
        assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);

        let (mut near, far) = beside_rustls(ours, 1 << 20).await;
        drop(far.into_inner());
        assert_eq!(near.read(&mut [0; 9]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

trait IntoInner {
    fn into_inner(self) -> Io;
}

impl IntoInner for TlsStream<Io> {
    fn into_inner(self) -> Io {
        match self {
            Self::Client(stream) => stream.into_inner().0,
            Self::Server(stream) => stream.into_inner().0,
        }
    }
}

/// No keys come later.
struct NoKeys;

impl NextKeys for NoKeys {
    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        Ok((0, secrets()))
    }

    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        Ok((0, secrets()))
    }
}

fn secrets() -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from([7; 32]), iv: [9; 12].into() }
}

fn records(io: Io) -> Records<Io> {
    let secrets = ExtractedSecrets { tx: (0, secrets()), rx: (0, secrets()) };
    Records::new(ReadAhead::new(io), secrets, u64::MAX, Box::new(NoKeys)).unwrap()
}

/// One record as a peer sends it that keeps no rule.
fn sealed(key: &mut Key, content: &[u8]) -> Vec<u8> {
    let (kind, data) = content.split_last().unwrap();
    let mut record = vec![0; HEAD_BYTES + content.len() + TAG_BYTES];
    key.seal(*kind, data, &mut record).unwrap();
    record
}

/// What whoever reads learns of these records.
async fn learns(contents: &[&[u8]]) -> Result<Vec<u8>, RecordError> {
    let mut key = Key::new((0, secrets())).unwrap();
    let sent: Vec<u8> = contents.iter().flat_map(|content| sealed(&mut key, content)).collect();
    reads(&sent).await
}

async fn reads(sent: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut results = Vec::new();
    // Whoever asks for little has records decrypted in the buffer; for much, straight to it.
    for asked in [7, BUFFER_BYTES] {
        let (near, mut far) = pipe(4 << 20);
        far.write_all(sent).await.unwrap();
        let (mut near, mut got, mut part) = (records(near), Vec::new(), vec![0; asked]);
        let result = loop {
            match poll!(near.read(&mut part)) {
                Poll::Pending | Poll::Ready(Ok(0)) => break Ok(got),
                Poll::Ready(Ok(count)) => got.extend_from_slice(&part[..count]),
                Poll::Ready(Err(error)) => {
                    break Err(error.get_ref().unwrap().downcast_ref::<RecordError>().unwrap().clone());
                }
            }
        };
        results.push(result);
    }
    assert_eq!(results[0], results[1]);
    results.remove(0)
}

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

#[tokio::test]
async fn what_breaks_the_protocol_is_an_error_that_says_so() {
    let long = vec![DATA; DATA_BYTES_MAX + 2];
    let cases: [(&[&[u8]], RecordError); 12] = [
        (&[&[0, 0, 0]], RecordError::Kindless),
        (&[&[1, 20]], RecordError::Unexpected(20)),
        (&[&[2, 40, ALERT]], RecordError::Alert(AlertDescription::HandshakeFailure)),
        (&[&[1, 2, 3, ALERT]], RecordError::Unexpected(ALERT)),
        (&[&[1, 0, 0, 1, 7, HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        (&[&[HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        // A ticket of which a part is missing, keys in pieces, and keys that do not end their record.
        (&[&[4, 0, 0, 9, 1, HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        (&[&[24, 0, 0, HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        (&[&[24, 0, 0, 1, 0, 24, HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        (&[&[24, 0, 0, 1, 2, HANDSHAKE]], RecordError::Unexpected(HANDSHAKE)),
        (&[&long], RecordError::TooLong(DATA_BYTES_MAX + 1)),
        (&[&[DATA][..]; 33], RecordError::Empty),
    ];
    for (contents, expected) in cases {
        assert_eq!(
            learns(contents).await,
            Err(expected),
            "{:?}",
            &contents[0][..contents[0].len().min(9)]
        );
    }
    let heads: [(&[u8], RecordError); 5] = [
        (&[ALERT, 3, 3, 0, 2], RecordError::Plain(ALERT)),
        (&[20, 3, 3, 0, 1], RecordError::Plain(20)),
        (b"GET /", RecordError::Plain(b'G')),
        (&[DATA, 3, 3, 0, 16], RecordError::TooShort(16)),
        (&[DATA, 3, 3, 0x41, 1], RecordError::TooLong(0x4101)),
    ];
    for (head, expected) in heads {
        assert_eq!(reads(head).await, Err(expected));
    }
}

#[tokio::test]
async fn what_is_allowed_is_read_or_passed_over() {
    let few = [&[DATA][..]; 32];
    assert_eq!(learns(&few).await, Ok(vec![]));
    // Padding, a ticket and another behind it, a warning, empty records before data and after, and an end.
    let allowed: &[&[u8]] = &[
        &[1, 2, DATA, 0, 0, 0],
        &[4, 0, 0, 2, 1, 1, 4, 0, 0, 0, HANDSHAKE],
        &[1, 90, ALERT],
        &[DATA],
        &[0, DATA],
        &[1, 0, ALERT],
        &[9, DATA],
    ];
    assert_eq!(learns(allowed).await, Ok(vec![1, 2, 0]));
}

#[tokio::test]
async fn a_record_that_was_changed_in_any_place_is_not_read() {
    let mut key = Key::new((0, secrets())).unwrap();
    let record = sealed(&mut key, b"some data\x17");
    for place in 1..record.len() {
        let mut changed = record.clone();
        changed[place] ^= 1;
        // A length that is larger has the reader wait for more, but never read what is there.
        assert!(reads(&changed).await.unwrap_or_default().is_empty(), "changed at {place}");
    }
    // Once more, as a replay, and in another order.
    let second = sealed(&mut key, b"more data\x17");
    assert_eq!(reads(&[&record[..], &record].concat()).await, Err(RecordError::Changed));
    assert_eq!(reads(&[second, record].concat()).await, Err(RecordError::Changed));
}

#[tokio::test]
async fn half_a_record_holds_no_more_memory_than_its_bytes() {
    let mut key = Key::new((0, secrets())).unwrap();
    let record = sealed(&mut key, &[&[5; 1_000][..], &[DATA]].concat());
    let (near, mut far) = pipe(1 << 20);
    let mut near = records(near);
    let mut got = [0; 2_000];
    for (sent, byte) in record.iter().enumerate() {
        assert!(poll!(near.read(&mut got)).is_pending());
        assert_eq!(near.reading.holds(), (false, sent));
        far.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(near.read(&mut got).await.unwrap(), 1_000);
    assert_eq!(near.reading.holds(), (false, 0));
}

#[tokio::test]
async fn no_more_is_taken_than_four_records_while_nobody_reads() {
    let (near, mut far) = pipe(100);
    let mut near = records(near);
    let mut taken = 0;
    while let Poll::Ready(count) = poll!(near.write(&[1; 1_000])) {
        taken += count.unwrap();
    }
    assert_eq!(taken, 4 * DATA_BYTES_MAX);
    assert!(poll!(pin!(near.flush())).is_pending());
    assert!(near.writing.holds_a_buffer());
    // All of it leaves when somebody does, with the end behind it.
    let mut read = Vec::new();
    let (closed, all) = join(near.close(), far.read_to_end(&mut read)).await;
    closed.unwrap();
    all.unwrap();
    let end = HEAD_BYTES + 3 + TAG_BYTES;
    assert_eq!(read.len(), 4 * (HEAD_BYTES + DATA_BYTES_MAX + 1 + TAG_BYTES) + end);
    assert!(!near.writing.holds_a_buffer());
}

#[tokio::test]
async fn keys_that_the_peer_asks_for_again_and_again_are_changed_once_before_the_next_data() {
    let asks: &[u8] = &[24, 0, 0, 1, 1, HANDSHAKE];
    let (near, mut far) = pipe(1 << 20);
    let mut near = records(near);
    let mut key = Key::new((0, secrets())).unwrap();
    for _ in 0..5 {
        far.write_all(&sealed(&mut key, asks)).await.unwrap();
        key = Key::new((0, secrets())).unwrap();
    }
    assert!(poll!(near.read(&mut [0; 1])).is_pending());
    near.write_all(b"data").await.unwrap();
    near.flush().await.unwrap();
    let mut got = vec![0; 1 << 10];
    let count = far.read(&mut got).await.unwrap();
    let (key_update, data) = (HEAD_BYTES + 6 + TAG_BYTES, HEAD_BYTES + 5 + TAG_BYTES);
    assert_eq!(count, key_update + data);
}
