//! What is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::AsyncWrite;

use super::{
    DATA_BYTES_MAX, HEAD_BYTES, Kind, NextKeys, RecordError, TAG_BYTES,
    key::Key,
    said::{OUR_END, OUR_KEY_UPDATE},
};
use crate::net::lent::{BUFFER_BYTES, give_back, lend};

/// What a record takes besides its data.
const AROUND_BYTES: usize = HEAD_BYTES + 1 + TAG_BYTES;

/// Records of data begin only where one as long as they become has room before this. Behind it is room for a word about keys, and for
/// the last one.
const DATA_END: usize = BUFFER_BYTES - 2 * (AROUND_BYTES + OUR_KEY_UPDATE.len());

const _: () = assert!(4 * (AROUND_BYTES + DATA_BYTES_MAX) <= DATA_END, "four records have room");

/// Records as they leave.
pub(super) struct Writing {
    key: Key,
    /// Records that a key is good for.
    limit: u64,
    /// The peer wants us to take our next key.
    pub(super) owes_key: bool,
    /// Lent while bytes wait in it: records that are sealed up to `sealed`, of which those up to `sent` have left, and behind them one that
    /// is open.
    buffer: Option<Box<[u8]>>,
    sent: usize,
    sealed: usize,
    /// Bytes of data in the open one.
    open: usize,
    ended: bool,
}

impl Writing {
    pub(super) fn new(key: Key, limit: u64) -> Self {
        let (buffer, owes_key, ended) = (None, false, false);
        Self { key, limit, owes_key, buffer, sent: 0, sealed: 0, open: 0, ended }
    }

    #[cfg(test)]
    pub(super) fn limit_is(&mut self, limit: u64) {
        self.limit = limit;
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.key.used()
    }

    #[cfg(test)]
    pub(super) fn holds_a_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    /// Takes what there is room for, which is nothing while four records wait to be sent.
    pub(super) fn take(&mut self, bytes: &[u8], keys: &mut dyn NextKeys) -> Result<usize, RecordError> {
        if self.ended {
            return Err(RecordError::Ended);
        }
        let mut buffer = self.buffer.take().unwrap_or_else(lend);
        let taken = self.fill(&mut buffer, bytes, keys);
        self.buffer = Some(buffer);
        taken
    }

    fn fill(
        &mut self,
        buffer: &mut [u8],
        bytes: &[u8],
        keys: &mut dyn NextKeys,
    ) -> Result<usize, RecordError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.open == 0 {
                if self.sealed + AROUND_BYTES + DATA_BYTES_MAX > DATA_END {
                    break;
                }
                self.take_next_key(buffer, keys)?;
                if let Some((whole, more)) = rest.split_at_checked(DATA_BYTES_MAX) {
                    self.seal(Kind::Data, whole, buffer)?;
                    rest = more;
                    continue;
                }
            }
            let (now, later) = rest.split_at(rest.len().min(DATA_BYTES_MAX - self.open));
            let place = self.sealed + HEAD_BYTES + self.open;
            buffer[place..place + now.len()].copy_from_slice(now);
            self.open += now.len();
            rest = later;
            if self.open == DATA_BYTES_MAX {
                self.seal_open(buffer)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// A record of its own.
    fn seal(&mut self, kind: Kind, content: &[u8], buffer: &mut [u8]) -> Result<(), RecordError> {
        let end = self.sealed + AROUND_BYTES + content.len();
        self.key.seal(kind.code(), content, &mut buffer[self.sealed..end])?;
        self.sealed = end;
        Ok(())
    }

    fn seal_open(&mut self, buffer: &mut [u8]) -> Result<(), RecordError> {
        if self.open > 0 {
            let end = self.sealed + AROUND_BYTES + self.open;
            self.key.seal_in_place(Kind::Data.code(), &mut buffer[self.sealed..end])?;
            (self.sealed, self.open) = (end, 0);
        }
        Ok(())
    }

    /// Says so and takes the next key, if this one was used as often as it may be, or if the peer wants that.
    fn take_next_key(&mut self, buffer: &mut [u8], keys: &mut dyn NextKeys) -> Result<(), RecordError> {
        if self.owes_key || self.key.used().saturating_add(1) >= self.limit {
            self.seal(Kind::Handshake, &OUR_KEY_UPDATE, buffer)?;
            self.key = Key::new(keys.next_to_send()?)?;
            self.owes_key = false;
        }
        Ok(())
    }

    /// Sends all that waits, with the open record.
    pub(super) fn poll_flush<C: AsyncWrite + Unpin>(
        &mut self,
        io: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut buffer) = self.buffer.take() {
            let sealed = self.seal_open(&mut buffer);
            self.buffer = Some(buffer);
            sealed?;
        }
        ready!(self.poll_send(io, cx))?;
        Pin::new(io).poll_flush(cx)
    }

    /// Sends what is sealed. There is no open record beside it.
    pub(super) fn poll_send<C: AsyncWrite + Unpin>(
        &mut self,
        io: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &self.buffer else { return Poll::Ready(Ok(())) };
        while self.sent < self.sealed {
            match ready!(Pin::new(&mut *io).poll_write(cx, &buffer[self.sent..self.sealed]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        (self.sent, self.sealed) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more comes, once.
    pub(super) fn poll_end<C: AsyncWrite + Unpin>(
        &mut self,
        io: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            let mut buffer = self.buffer.take().unwrap_or_else(lend);
            let sealed = self.seal_open(&mut buffer);
            let sealed = sealed.and_then(|()| self.seal(Kind::Alert, &OUR_END, &mut buffer));
            self.buffer = Some(buffer);
            sealed?;
        }
        ready!(self.poll_send(io, cx))?;
        Pin::new(io).poll_close(cx)
    }
}
