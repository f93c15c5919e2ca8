//! What is received.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use futures::AsyncRead;

use super::{
    DATA_BYTES_MAX, HEAD_BYTES, Head, Kind, NextKeys, RECORD_BYTES_MAX, RecordError, TAG_BYTES,
    key::Key,
    said::{Said, said},
};
use crate::net::lent::{give_back, lend};

/// Records in a row that carry no data. rustls bears as many that ask for new keys.
pub(super) const EMPTY_MAX: u32 = 32;

/// Records as they come, and what was decrypted of them.
pub(super) struct Reading {
    key: Key,
    /// Lent while bytes wait in it, which are from `from` to `to`.
    buffer: Option<Box<[u8]>>,
    from: usize,
    to: usize,
    /// Data that was decrypted in the buffer, before `from`.
    data: Range<usize>,
    /// The beginning of a record whose rest has not come yet; the buffer is lent to others meanwhile.
    parked: Vec<u8>,
    /// Records without data in a row.
    empty: u32,
    ended: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// So much was decrypted to where it was asked for.
    Read(usize),
    /// There is more to take.
    Again,
    /// More has to be received.
    Receive,
    Said(Said),
    End,
}

impl Reading {
    /// What was received already is [`BUFFER_BYTES`](crate::net::lent::BUFFER_BYTES) at most.
    pub(super) fn new(key: Key, received: Vec<u8>) -> Self {
        let (from, to, data, empty, ended) = (0, 0, 0..0, 0, false);
        let mut reading = Self { key, buffer: None, from, to, data, parked: received, empty, ended };
        if !reading.parked.is_empty() {
            reading.buffer = Some(reading.gathered());
        }
        reading
    }

    pub(super) fn take_next_key(&mut self, keys: &mut dyn NextKeys) -> Result<(), RecordError> {
        self.key = Key::new(keys.next_to_receive()?)?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn holds(&self) -> (bool, usize) {
        (self.buffer.is_some(), self.parked.capacity())
    }

    /// Hands out what was decrypted, or decrypts the next record; straight into `out` if it fits.
    pub(super) fn next(&mut self, out: &mut [u8]) -> Result<Next, RecordError> {
        if !self.data.is_empty() {
            return Ok(Next::Read(self.take(out)));
        }
        if self.ended {
            return Ok(Next::End);
        }
        let Some(mut buffer) = self.buffer.take() else { return Ok(Next::Receive) };
        let next = self.open(&mut buffer, out);
        self.keep(buffer);
        next
    }

    /// Keeps the buffer as long as something waits in it.
    fn keep(&mut self, buffer: Box<[u8]>) {
        if self.from == self.to && self.data.is_empty() {
            give_back(buffer);
        } else {
            self.buffer = Some(buffer);
        }
    }

    fn take(&mut self, out: &mut [u8]) -> usize {
        let Some(buffer) = self.buffer.take() else { return 0 };
        let count = out.len().min(self.data.len());
        out[..count].copy_from_slice(&buffer[self.data.start..self.data.start + count]);
        self.data.start += count;
        self.keep(buffer);
        count
    }

    /// Decrypts the next record, if the whole of it was received.
    fn open(&mut self, buffer: &mut [u8], out: &mut [u8]) -> Result<Next, RecordError> {
        let Some((head, body)) = whole(&buffer[self.from..self.to])? else { return Ok(Next::Receive) };
        let body = self.from + body.start..self.from + body.end;
        self.from = body.end;
        let (start, plain) = (body.start, body.len() - TAG_BYTES);
        let direct = plain <= out.len();
        let opened = match direct {
            true => {
                self.key.open(head, &buffer[body], &mut out[..plain])?;
                &mut out[..plain]
            }
            false => self.key.open_in_place(head, &mut buffer[body])?,
        };
        let (kind, count) = content(opened)?;
        if kind == Kind::Data && count > 0 {
            self.empty = 0;
            if direct {
                return Ok(Next::Read(count));
            }
            self.data = start..start + count;
            return Ok(Next::Again);
        }
        self.empty += 1;
        if self.empty > EMPTY_MAX {
            return Err(RecordError::Empty);
        }
        let said = said(kind, &opened[..count])?;
        self.ended |= said == Said::End;
        Ok(Next::Said(said))
    }

    /// Receives more. An end that the peer did not announce is an error: somebody else may have cut it off.
    pub(super) fn poll_receive<C: AsyncRead + Unpin>(
        &mut self,
        io: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = self.gathered();
        let received = Pin::new(io).poll_read(cx, &mut buffer[self.to..]);
        if let Poll::Ready(Ok(count @ 1..)) = received {
            self.to += count;
            self.buffer = Some(buffer);
            return Poll::Ready(Ok(()));
        }
        self.parked = buffer[..self.to].to_vec();
        self.to = 0;
        give_back(buffer);
        received.map(|received| match received {
            Ok(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, RecordError::Cut)),
            Err(error) => Err(error),
        })
    }

    /// A buffer with all that waits at its beginning.
    fn gathered(&mut self) -> Box<[u8]> {
        let parked = std::mem::take(&mut self.parked);
        let buffer = match self.buffer.take() {
            Some(mut buffer) => {
                buffer.copy_within(self.from..self.to, 0);
                self.to -= self.from;
                buffer
            }
            None => {
                let mut buffer = lend();
                buffer[..parked.len()].copy_from_slice(&parked);
                self.to = parked.len();
                buffer
            }
        };
        self.from = 0;
        buffer
    }
}

/// The head of the next record and where its body is, if all of it is there.
fn whole(received: &[u8]) -> Result<Option<(Head, Range<usize>)>, RecordError> {
    let Some((&head, rest)) = received.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
    match Kind::of(head[0]) {
        Some(Kind::Data) if HEAD_BYTES + bytes > RECORD_BYTES_MAX => Err(RecordError::TooLong(bytes)),
        Some(Kind::Data) if bytes <= TAG_BYTES => Err(RecordError::TooShort(bytes)),
        Some(Kind::Data) => Ok((bytes <= rest.len()).then_some((head, HEAD_BYTES..HEAD_BYTES + bytes))),
        _ => Err(RecordError::Plain(head[0])),
    }
}

/// What the content is, and how long without its padding.
fn content(opened: &[u8]) -> Result<(Kind, usize), RecordError> {
    let count = opened.iter().rposition(|byte| *byte != 0).ok_or(RecordError::Kindless)?;
    let kind = Kind::of(opened[count]).ok_or(RecordError::Unexpected(opened[count]))?;
    if count > DATA_BYTES_MAX { Err(RecordError::TooLong(count)) } else { Ok((kind, count)) }
}
