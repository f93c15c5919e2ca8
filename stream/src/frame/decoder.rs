//! From the bytes of a substream to frames.

use std::ops::Range;

use bytes::{Buf, Bytes};

use super::{
    super::StreamId, Attached, Code, DATA_HEAD_BYTES, Frame, Hello, Kind, Move, SKIPPED_KIND_MIN,
    TICKET_BYTES_MAX, VERSION,
};
use crate::service::{SERVICE_NAME_BYTES_MAX, Service};

/// HELLO up to its name.
const HELLO_BYTES: usize = 37;
/// Where HELLO says how long its name and its ticket are.
const HELLO_LENGTHS: Range<usize> = 34..HELLO_BYTES;
const MOVE_BYTES: usize = 38;
const ATTACHED_BYTES: usize = 25;
const ACK_BYTES: usize = 17;
const OFFSET_BYTES: usize = 9;
const RESET_BYTES: usize = 3;
/// A frame that is skipped, up to its payload.
const SKIPPED_HEAD_BYTES: usize = 3;

/// Of frames smaller than this, many are taken out of one read.
const STRETCH_BYTES_MIN: usize = 4 << 10;

/// Why bytes are not a frame. Nothing after them can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this kind.
    #[error("{0} is no kind of frame")]
    Kind(u8),
    /// HELLO or MOVE of a version that is not spoken here.
    #[error("version {0} is not spoken here, version {VERSION} is")]
    Version(u8),
    /// The name in HELLO is too long, empty, or has characters that are not allowed.
    #[error("the service's name is malformed")]
    Service,
    /// The ticket in HELLO is too long.
    #[error("a ticket has at most {TICKET_BYTES_MAX} bytes, this one has {length}")]
    Ticket {
        /// Its length.
        length: u16,
    },
}

/// What is cut out of the bytes of a leg.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole frame of any kind but DATA.
    Frame(Frame),
    /// Payload of a DATA frame: all of it, or a piece. Nothing waits for the rest of a frame.
    Data {
        /// Where it starts in the stream.
        offset: u64,
        /// At least one byte.
        payload: &'a [u8],
    },
}

/// Cuts frames out of what was read from one leg. Payload is handed out where it lies, never copied.
/// Frames of kinds that may be skipped are thrown away as they come.
///
/// Holds what has begun and is not whole: at most one HELLO. Of DATA, and of what is skipped, only the
/// head is ever held.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    rest: Rest,
}

/// What is still to come of the frame whose head was read.
#[derive(Clone, Copy, Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    /// Payload of DATA: where it goes on in the stream, and how much.
    Payload(u64, usize),
    /// So many bytes that are skipped.
    Skipped(usize),
}

/// All of a frame but the payload of DATA or of a frame that is skipped.
enum Word {
    Frame(Frame),
    Data { offset: u64, length: usize },
    Skipped { length: usize },
}

impl Decoder {
    /// A decoder at the start of a leg.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes at least belong to the frame that has begun, or to the next one.
    pub fn missing(&self) -> usize {
        let word = || word_bytes(&self.held).ok().flatten().unwrap_or(HELLO_BYTES);
        match self.rest {
            Rest::Payload(_, left) | Rest::Skipped(left) => left,
            Rest::Nothing if self.held.is_empty() => 1,
            Rest::Nothing => word().saturating_sub(self.held.len()),
        }
    }

    /// The payload that comes next on the leg, if payload does: where it starts in the stream, and
    /// its bytes.
    pub fn payload(&self) -> Option<(u64, usize)> {
        match self.rest {
            Rest::Payload(offset, left) => Some((offset, left)),
            Rest::Nothing | Rest::Skipped(_) => None,
        }
    }

    /// Bytes to the end of the payload that has begun and of the head after it, if they are many. A reader that
    /// reads no more than these finds the next payload at the front of its next read, where it need not be moved.
    pub fn stretch(&self) -> Option<usize> {
        let left = self.payload().map(|(_, left)| left).filter(|left| *left >= STRETCH_BYTES_MIN);
        left.map(|left| left + DATA_HEAD_BYTES)
    }

    /// The next item at the front of `input`, which is cut off it; `None` if more must be read first:
    /// then all of `input` is taken.
    ///
    /// # Errors
    /// If the bytes are no frame. The leg cannot be read any further.
    #[inline]
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, FrameError> {
        let payload = match self.rest {
            Rest::Payload(..) => true,
            Rest::Nothing => self.begins_data(input),
            Rest::Skipped(_) => false,
        };
        if !payload && let Some(frame) = self.frame(input)? {
            return Ok(Some(Item::Frame(frame)));
        }
        let next = self.payload().filter(|_| !input.is_empty());
        Ok(next.map(|(offset, left)| {
            let payload = cut(input, left);
            let left = left - payload.len();
            let next = offset.saturating_add(payload.len() as u64);
            self.rest = if left > 0 { Rest::Payload(next, left) } else { Rest::Nothing };
            Item::Data { offset, payload }
        }))
    }

    /// Where the payload of `input` starts in the stream, if `input` is one whole DATA frame and nothing else:
    /// what mostly comes of small messages. Then there is nothing left to decode.
    #[inline]
    pub fn data_alone(&self, input: &[u8]) -> Option<u64> {
        let (head, payload) = input.split_first_chunk::<DATA_HEAD_BYTES>()?;
        let between = matches!(self.rest, Rest::Nothing) && self.held.is_empty();
        let (offset, length) = parse_data(&head[1..]);
        (between && head[0] == Kind::Data as u8 && length == payload.len()).then_some(offset)
    }

    /// Takes the head of a DATA frame, if one is at the front and whole: what mostly comes.
    #[inline]
    fn begins_data(&mut self, input: &mut &[u8]) -> bool {
        let Some((head, rest)) = input.split_first_chunk::<DATA_HEAD_BYTES>() else { return false };
        let begins = self.held.is_empty() && head[0] == Kind::Data as u8;
        if begins {
            let (offset, length) = parse_data(&head[1..]);
            (self.rest, *input) = (Rest::Payload(offset, length), rest);
        }
        begins
    }

    /// The next frame, unless it is DATA, which begins, or not whole. Skips what may be skipped.
    fn frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Rest::Skipped(left) = self.rest {
                let left = left - cut(input, left).len();
                self.rest = if left > 0 { Rest::Skipped(left) } else { Rest::Nothing };
            }
            match self.word(input)? {
                None => return Ok(None),
                Some(Word::Frame(frame)) => return Ok(Some(frame)),
                Some(Word::Data { offset, length }) => {
                    self.rest = Rest::Payload(offset, length);
                    return Ok(None);
                }
                Some(Word::Skipped { length }) => self.rest = Rest::Skipped(length),
            }
        }
    }

    fn word(&mut self, input: &mut &[u8]) -> Result<Option<Word>, FrameError> {
        if self.held.is_empty()
            && let Some(length) = word_bytes(input)?.filter(|length| *length <= input.len())
        {
            return parse(cut(input, length)).map(Some);
        }
        while !input.is_empty() {
            let more = cut(input, self.missing());
            self.held.extend_from_slice(more);
            if word_bytes(&self.held)? == Some(self.held.len()) {
                return parse(&std::mem::take(&mut self.held)).map(Some);
            }
        }
        Ok(None)
    }
}

/// The first `length` bytes, or what there is.
fn cut<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (first, rest) = input.split_at(length.min(input.len()));
    *input = rest;
    first
}

/// The length of the frame (of DATA and of what is skipped: of the head) that `read` begins with, once that is told.
fn word_bytes(read: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = read.first() else {
        return Ok(None);
    };
    if first >= SKIPPED_KIND_MIN {
        return Ok(Some(SKIPPED_HEAD_BYTES));
    }
    let kind = kind(first)?;
    if let (Kind::Hello | Kind::Move, Some(&version)) = (kind, read.get(1))
        && version != VERSION
    {
        return Err(FrameError::Version(version));
    }
    Ok(Some(match kind {
        Kind::Hello => return hello_bytes(read),
        Kind::Move => MOVE_BYTES,
        Kind::Attached => ATTACHED_BYTES,
        Kind::Data => DATA_HEAD_BYTES,
        Kind::Ack => ACK_BYTES,
        Kind::Blocked | Kind::Fin | Kind::FinAck | Kind::Lower | Kind::Lowered => OFFSET_BYTES,
        Kind::Reset => RESET_BYTES,
        Kind::Done | Kind::Ping | Kind::Pong => 1,
    }))
}

fn hello_bytes(read: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(mut lengths) = read.get(HELLO_LENGTHS) else {
        return Ok(None);
    };
    let name = usize::from(lengths.get_u8());
    let length = lengths.get_u16();
    if name == 0 || name > SERVICE_NAME_BYTES_MAX {
        return Err(FrameError::Service);
    }
    if usize::from(length) > TICKET_BYTES_MAX {
        return Err(FrameError::Ticket { length });
    }
    Ok(Some(HELLO_BYTES + name + usize::from(length)))
}

fn kind(byte: u8) -> Result<Kind, FrameError> {
    Ok(match byte {
        1 => Kind::Hello,
        2 => Kind::Move,
        3 => Kind::Attached,
        4 => Kind::Data,
        5 => Kind::Ack,
        6 => Kind::Blocked,
        7 => Kind::Fin,
        8 => Kind::FinAck,
        9 => Kind::Reset,
        10 => Kind::Done,
        11 => Kind::Ping,
        12 => Kind::Pong,
        13 => Kind::Lower,
        14 => Kind::Lowered,
        other => return Err(FrameError::Kind(other)),
    })
}

/// Reads one frame, or the head of DATA or of what is skipped; `bytes` has exactly the length that [`word_bytes`] found.
fn parse(mut bytes: &[u8]) -> Result<Word, FrameError> {
    let first = bytes.get_u8();
    if first >= SKIPPED_KIND_MIN {
        return Ok(Word::Skipped { length: usize::from(bytes.get_u16()) });
    }
    Ok(Word::Frame(match kind(first)? {
        Kind::Hello => return parse_hello(bytes),
        Kind::Move => {
            bytes.advance(1);
            let stream = StreamId::from_bytes(bytes.get_u128().to_be_bytes());
            let (epoch, received) = (bytes.get_u32(), bytes.get_u64());
            Frame::Move(Move { stream, epoch, received, limit: bytes.get_u64() })
        }
        Kind::Attached => {
            let (epoch, features, received) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u64());
            Frame::Attached(Attached { epoch, features, received, limit: bytes.get_u64() })
        }
        Kind::Data => {
            let (offset, length) = parse_data(bytes);
            return Ok(Word::Data { offset, length });
        }
        Kind::Ack => Frame::Ack { received: bytes.get_u64(), limit: bytes.get_u64() },
        Kind::Blocked => Frame::Blocked { limit: bytes.get_u64() },
        Kind::Fin => Frame::Fin { offset: bytes.get_u64() },
        Kind::FinAck => Frame::FinAck { offset: bytes.get_u64() },
        Kind::Reset => Frame::Reset { code: Code::from(bytes.get_u16()) },
        Kind::Done => Frame::Done,
        Kind::Ping => Frame::Ping,
        Kind::Pong => Frame::Pong,
        Kind::Lower => Frame::Lower { limit: bytes.get_u64() },
        Kind::Lowered => Frame::Lowered { limit: bytes.get_u64() },
    }))
}

/// Where the payload of DATA starts, and its length.
fn parse_data(mut bytes: &[u8]) -> (u64, usize) {
    (bytes.get_u64(), usize::from(bytes.get_u16()) + 1)
}

fn parse_hello(mut bytes: &[u8]) -> Result<Word, FrameError> {
    bytes.advance(1);
    let stream = StreamId::from_bytes(bytes.get_u128().to_be_bytes());
    let (epoch, features, limit) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u64());
    let name_bytes = usize::from(bytes.get_u8());
    bytes.advance(2);
    let name = cut(&mut bytes, name_bytes);
    let service = str::from_utf8(name).ok().and_then(|name| Service::new(name).ok());
    let service = service.ok_or(FrameError::Service)?;
    let ticket = Bytes::copy_from_slice(bytes);
    Ok(Word::Frame(Frame::Hello(Box::new(Hello { stream, epoch, features, limit, service, ticket }))))
}

#[cfg(test)]
mod tests;
