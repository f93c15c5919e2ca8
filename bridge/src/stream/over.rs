//! Our stream protocol over any byte pipe: without an endpoint, and so without moves.
//!
//! For tests and benches, and for whoever has a pipe of his own and wants what the protocol adds to it:
//! half-closes that are told from losses, and typed ends. One pipe is one leg; when it ends before the
//! stream does, the stream waits for [`Config::patience`] and fails. Both ends run on tokio.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{
    Carrying, Stream, StreamFacts, StreamId,
    budget::{BUDGET_BYTES_DEFAULT, Budget},
    carrier::Shared,
    frame::{Decoder, Frame, FrameError, Hello},
    machine::{Config, LegId, Machine},
    pulse::Pulse,
};
use crate::{
    path::{ConnectionId, Direction, Path},
    service::Service,
};

/// The only leg.
const LEG: LegId = LegId(0);

/// Why no stream came out of a pipe.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The pipe failed or ended before HELLO was there.
    #[error("the pipe broke before a stream was asked for: {0}")]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error("the other end does not speak the stream protocol: {0}")]
    Malformed(#[from] FrameError),
    /// Another frame than HELLO.
    #[error("a pipe begins with HELLO, not with {0:?}")]
    Unexpected(super::frame::Kind),
}

/// The opener's end of a stream over `io`, for `service` at `peer` (as the facts shall tell; nothing
/// checks it). May be written to at once. To be called within a tokio runtime.
pub fn open<P>(io: P, peer: PeerId, service: Service, config: Arc<Config>) -> Stream
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = StreamId::random();
    let facts = StreamFacts::new(stream, peer, service.clone(), Direction::Outbound, pipe());
    let budget = Budget::new(BUDGET_BYTES_DEFAULT);
    let machine = Machine::open(stream, service, Bytes::new(), config, &budget, LEG, Instant::now());
    start(machine, facts, io, Decoder::new())
}

/// The acceptor's end: waits for HELLO and agrees to whatever service it names.
///
/// # Errors
/// If something else than HELLO comes, or nothing more does.
pub async fn accept<P>(mut io: P, peer: PeerId, config: Arc<Config>) -> Result<Stream, AcceptError>
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut decoder = Decoder::new();
    let hello = hello(&mut io, &mut decoder).await?;
    let service = hello.service.clone();
    let facts = StreamFacts::new(hello.stream, peer, service, Direction::Inbound, pipe());
    let budget = Budget::new(BUDGET_BYTES_DEFAULT);
    let machine = Machine::accept(&hello, config, &budget, LEG, Instant::now());
    Ok(start(machine, facts, io, decoder))
}

fn start<P>(machine: Machine, facts: StreamFacts, io: P, decoder: Decoder) -> Stream
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Nobody listens: there is no driver to bring another path.
    let (notes, _) = mpsc::unbounded_channel();
    Stream::new(Shared::start(machine, facts.into(), LEG, Box::new(io), decoder, notes))
}

fn pipe() -> Carrying {
    let (connection, address) = (ConnectionId::none(), Multiaddr::empty());
    Carrying { connection, path: Path::Direct, address, pulse: Pulse::default() }
}

async fn hello<P>(io: &mut P, decoder: &mut Decoder) -> Result<Box<Hello>, AcceptError>
where
    P: AsyncRead + Unpin,
{
    loop {
        match decoder.decode()? {
            Some(Frame::Hello(hello)) => return Ok(hello),
            Some(other) => return Err(AcceptError::Unexpected(other.kind())),
            None => {}
        }
        match io.read(decoder.space()).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => decoder.filled(read),
        }
    }
}
