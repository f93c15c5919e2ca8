//! A stream over a single pipe, and so without moves.
//!
//! For tests and benches, and for whoever has a pipe and wants what the protocol adds to it:
//! half-closes that are told from losses, and typed ends. One pipe is one leg; when it ends before the
//! stream does, the stream waits for [`Config::patience`] and fails. Both ends run on tokio.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    budget::{BUDGET_BYTES_DEFAULT, Budget},
    facts::{Direction, Facts},
    first::{FirstError, first_frame},
    frame::{Frame, FrameError, Hello, Kind},
    id::StreamId,
    machine::{Config, LegId, Machine},
    pulse::Pulse,
    pump::Shared,
    route::Route,
    service::Service,
    stream::Stream,
};

/// The way that a single pipe takes: counted as direct.
#[derive(Clone, Debug, Default)]
pub struct OnePipe(Pulse);

impl Route for OnePipe {
    fn is_direct(&self) -> bool {
        true
    }

    fn pulse(&self) -> &Pulse {
        &self.0
    }
}

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

/// The opener's end of a stream over `io`, for `service`. May be written to at once. To be called within a
/// tokio runtime.
pub fn open<P>(io: P, service: Service, config: Arc<Config>) -> Stream<OnePipe>
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = StreamId::random();
    let facts = Facts::new(stream, service.clone(), Direction::Outbound, OnePipe::default());
    let budget = Budget::new(BUDGET_BYTES_DEFAULT);
    let machine = Machine::open(stream, service, Bytes::new(), config, &budget, LEG, Instant::now());
    start(machine, facts, io)
}

/// The acceptor's end: waits for HELLO and agrees to whatever service it names.
///
/// # Errors
/// If something else than HELLO comes, or nothing more does.
pub async fn accept<P>(mut io: P, config: Arc<Config>) -> Result<Stream<OnePipe>, AcceptError>
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hello = hello(&mut io).await?;
    let service = hello.service.clone();
    let facts = Facts::new(hello.stream, service, Direction::Inbound, OnePipe::default());
    let budget = Budget::new(BUDGET_BYTES_DEFAULT);
    let machine = Machine::accept(&hello, config, &budget, LEG, Instant::now());
    Ok(start(machine, facts, io))
}

fn start<P>(machine: Machine, facts: Facts<OnePipe>, io: P) -> Stream<OnePipe>
where
    P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Nobody listens: there is nobody to bring another leg.
    Stream::new(Shared::start(machine, facts.into(), LEG, Box::new(io), Box::new(drop)))
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
