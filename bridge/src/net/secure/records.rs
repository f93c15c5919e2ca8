//! Records of TLS 1.3, once the handshake is over. See [RFC 8446, section 5](https://www.rfc-editor.org/rfc/rfc8446#section-5).
//!
//! rustls copies what it reads into a buffer of its own, what it decrypted into a list of pieces, and from there to whoever reads.
//! Here a record is decrypted straight to whoever reads, or else where it was received, and encrypted into the buffer that it leaves
//! from; a quiet connection has no buffer. rustls did the handshake, and still derives keys that come later.

mod key;
mod reading;
mod said;
mod writing;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::{
    self, AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets, kernel::KernelConnection,
};

use self::{
    key::Key,
    reading::{Next, Reading},
    said::Said,
    writing::Writing,
};
use crate::net::lent::ReadAhead;

/// Of a record: what it is, a version, and its length.
pub(super) const HEAD_BYTES: usize = 5;

type Head = [u8; HEAD_BYTES];

/// Data in one.
const DATA_BYTES_MAX: usize = 16 << 10;

/// All of one: with its kind, padding and tag it may be that much longer than its data.
pub(super) const RECORD_BYTES_MAX: usize = HEAD_BYTES + DATA_BYTES_MAX + 256;

/// What proves that a record is unchanged, with each cipher of TLS 1.3 that is proposed.
const TAG_BYTES: usize = 16;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alert,
    Handshake,
    Data,
}

/// Why records can be neither read nor written any more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record was changed on its way")]
    Changed,
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
    #[error("a record of {0} bytes is too short")]
    TooShort(usize),
    #[error("a record of kind {0} that is not encrypted")]
    Plain(u8),
    #[error("a record with nothing but padding")]
    Kindless,
    #[error("a record of kind {0} that has no place after the handshake")]
    Unexpected(u8),
    #[error("more than {} records in a row without data", reading::EMPTY_MAX)]
    Empty,
    #[error("the peer ended the connection: {0:?}")]
    Alert(AlertDescription),
    #[error("the connection was cut off, and not ended by the peer")]
    Cut,
    #[error("the connection was ended here")]
    Ended,
    #[error("a record could not be encrypted")]
    Sealing,
    #[error("no further record can be encrypted with the same key")]
    Exhausted,
    #[error("no further key can be had: {0}")]
    NoKey(#[from] rustls::Error),
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::Ended => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        [Self::Alert, Self::Handshake, Self::Data].into_iter().find(|kind| kind.code() == code)
    }

    fn code(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }
}

/// Who derives keys that come later.
pub(super) trait NextKeys: Send {
    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;

    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
}

impl<D: Send> NextKeys for KernelConnection<D> {
    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_rx_secret()
    }

    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_tx_secret()
    }
}

/// A connection in TLS. What is written leaves when it is flushed, or when four records wait.
pub(crate) struct Records<C> {
    io: C,
    reading: Reading,
    writing: Writing,
    keys: Box<dyn NextKeys>,
}

impl<C> Records<C> {
    /// Each key encrypts `limit` records at most.
    pub(super) fn new(
        socket: ReadAhead<C>,
        secrets: ExtractedSecrets,
        limit: u64,
        keys: Box<dyn NextKeys>,
    ) -> Result<Self, rustls::Error> {
        let (io, received) = socket.into_parts();
        let reading = Reading::new(Key::new(secrets.rx)?, received);
        let writing = Writing::new(Key::new(secrets.tx)?, limit);
        Ok(Self { io, reading, writing, keys })
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Records<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { io, reading, writing, keys } = &mut *self;
        while !out.is_empty() {
            match reading.next(out)? {
                Next::Read(count) => return Poll::Ready(Ok(count)),
                Next::Receive => ready!(reading.poll_receive(io, cx))?,
                Next::Said(Said::NextKey { ours_too }) => {
                    reading.take_next_key(keys.as_mut())?;
                    writing.owes_key |= ours_too;
                }
                Next::Said(Said::Nothing | Said::End) | Next::Again => {}
                Next::End => break,
            }
        }
        Poll::Ready(Ok(0))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Records<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { io, writing, keys, .. } = &mut *self;
        loop {
            let taken = writing.take(bytes, keys.as_mut())?;
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            ready!(writing.poll_send(io, cx))?;
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, writing, .. } = &mut *self;
        writing.poll_flush(io, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, writing, .. } = &mut *self;
        writing.poll_end(io, cx)
    }
}

#[cfg(test)]
mod tests;
