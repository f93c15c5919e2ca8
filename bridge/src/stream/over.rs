//! Our stream protocol over any byte pipe: without an endpoint, and so without moves.
//!
//! For tests and benches, and for whoever has a pipe of his own and wants what the protocol adds to it:
//! half-closes that are told from losses, and typed ends. One pipe is one leg; when it ends before the
//! stream does, the stream waits for [`Config::patience`] and fails. Both ends run on tokio.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{
    Carrying, Stream, StreamFacts, StreamId,
    budget::{BUDGET_BYTES_DEFAULT, Budget},
    carrier::Shared,
    first::{FirstError, first_frame},
    frame::{Frame, FrameError, Hello, Kind},
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
    Unexpected(Kind),
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
    start(machine, facts, io)
}

/// The acceptor's end: waits for HELLO and agrees to whatever service it names.
///
/// # Errors
/// If something else than HELLO comes, or nothing more does.
pub async fn accept<P>(mut io: P, peer: PeerId, config: Arc<Config>) -> Result<Stream, AcceptError>
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hello = hello(&mut io).await?;
    let service = hello.service.clone();
    let facts = StreamFacts::new(hello.stream, peer, service, Direction::Inbound, pipe());
    let budget = Budget::new(BUDGET_BYTES_DEFAULT);
    let machine = Machine::accept(&hello, config, &budget, LEG, Instant::now());
    Ok(start(machine, facts, io))
}

fn start<P>(machine: Machine, facts: StreamFacts, io: P) -> Stream
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Nobody listens: there is no driver to bring another path.
    let (notes, _) = mpsc::unbounded_channel();
    Stream::new(Shared::start(machine, facts.into(), LEG, Box::new(io), notes))
}

fn pipe() -> Carrying {
    let (connection, address) = (ConnectionId::none(), Multiaddr::empty());
    Carrying { connection, path: Path::Direct, address, pulse: Pulse::default() }
}

async fn hello<P>(io: &mut P) -> Result<Box<Hello>, AcceptError>
where
    P: AsyncRead + Unpin,
{
    match first_frame(io).await {
        Ok(Frame::Hello(hello)) => Ok(hello),
        Ok(other) => Err(AcceptError::Unexpected(other.kind())),
        Err(FirstError::Data) => Err(AcceptError::Unexpected(Kind::Data)),
        Err(FirstError::Io(error)) => Err(error.into()),
        Err(FirstError::Malformed(error)) => Err(error.into()),
    }
}
