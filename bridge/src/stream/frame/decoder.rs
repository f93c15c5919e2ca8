//! From the bytes of a substream to frames.

use bytes::{Buf, Bytes, BytesMut};

use super::{super::StreamId, Attached, Code, Frame, Hello, Kind, Move, TICKET_BYTES_MAX, VERSION};
use crate::service::{SERVICE_NAME_BYTES_MAX, Service};

/// Room offered to a caller without a buffer of its own: the first words of a stream, and early data of
/// a small message.
const SPACE_BYTES: usize = 1 << 10;

const HELLO_BYTES: usize = 33;
const MOVE_BYTES: usize = 38;
const ATTACHED_BYTES: usize = 21;
const DATA_HEAD_BYTES: usize = 11;
const ACK_BYTES: usize = 17;
const OFFSET_BYTES: usize = 9;
const RESET_BYTES: usize = 3;

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

/// Cuts frames out of what was read from one leg.
///
/// Say what was read with [`Decoder::feed`], or read into [`Decoder::space`] and say how much came with
/// [`Decoder::filled`]; then call [`Decoder::decode`] until it has no more. Call [`Decoder::park`] when a
/// read would block.
///
/// Holds what it was fed and did not decode: if all is decoded before more is fed, one frame that is not
/// yet whole.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was read, then zeroes offered to the next read.
    buffer: BytesMut,
    filled: usize,
}

impl Decoder {
    /// A decoder at the start of a leg.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.filled);
        if self.buffer.capacity() < self.filled + bytes.len() {
            // No larger than what is there or is sure to come: payload is handed out as slices of it.
            let mut larger = BytesMut::with_capacity(self.filled + bytes.len().max(self.missing()));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.extend_from_slice(bytes);
        self.filled = self.buffer.len();
    }

    /// Room for a small read: 1 KiB.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.resize(self.filled + SPACE_BYTES, 0);
        &mut self.buffer[self.filled..]
    }

    /// `bytes` of the last [`Decoder::space`] were read.
    pub fn filled(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.buffer.len());
    }

    /// A read would block: gives the memory back unless part of a frame is in it.
    pub fn park(&mut self) {
        if self.filled == 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether part of a frame has been read.
    pub fn is_partial(&self) -> bool {
        self.filled > 0
    }

    /// The next whole frame, or `None` if more must be read first.
    ///
    /// # Errors
    /// If the bytes are no frame. The leg cannot be read any further.
    pub fn decode(&mut self) -> Result<Option<Frame>, FrameError> {
        let read = &self.buffer[..self.filled];
        let Some(length) = frame_bytes(read)?.filter(|length| *length <= read.len()) else {
            return Ok(None);
        };
        let frame = self.buffer.split_to(length).freeze();
        self.filled -= length;
        parse(frame).map(Some)
    }

    /// How much of the frame that has begun is still to be read.
    fn missing(&self) -> usize {
        let length = frame_bytes(&self.buffer[..self.filled]).ok().flatten().unwrap_or(0);
        length.saturating_sub(self.filled)
    }
}

/// The length of the frame that `read` begins with, once its head tells.
fn frame_bytes(read: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = read.first() else {
        return Ok(None);
    };
    let kind = kind(first)?;
    if let (Kind::Hello | Kind::Move, Some(&version)) = (kind, read.get(1))
        && version != VERSION
    {
        return Err(FrameError::Version(version));
    }
    Ok(match kind {
        Kind::Hello => return hello_bytes(read),
        Kind::Move => Some(MOVE_BYTES),
        Kind::Attached => Some(ATTACHED_BYTES),
        Kind::Data => {
            let length = read.get(9..DATA_HEAD_BYTES);
            length.map(|mut length| DATA_HEAD_BYTES + usize::from(length.get_u16()) + 1)
        }
        Kind::Ack => Some(ACK_BYTES),
        Kind::Blocked | Kind::Fin | Kind::FinAck => Some(OFFSET_BYTES),
        Kind::Reset => Some(RESET_BYTES),
        Kind::Done | Kind::Ping | Kind::Pong => Some(1),
    })
}

fn hello_bytes(read: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(mut lengths) = read.get(30..HELLO_BYTES) else {
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
        other => return Err(FrameError::Kind(other)),
    })
}

/// Reads one frame; `bytes` has exactly the length that [`frame_bytes`] found.
fn parse(mut bytes: Bytes) -> Result<Frame, FrameError> {
    Ok(match kind(bytes.get_u8())? {
        Kind::Hello => return parse_hello(bytes),
        Kind::Move => {
            bytes.advance(1);
            let stream = StreamId::from_bytes(bytes.get_u128().to_be_bytes());
            let (epoch, received) = (bytes.get_u32(), bytes.get_u64());
            Frame::Move(Move { stream, epoch, received, limit: bytes.get_u64() })
        }
        Kind::Attached => {
            let (epoch, received) = (bytes.get_u32(), bytes.get_u64());
            Frame::Attached(Attached { epoch, received, limit: bytes.get_u64() })
        }
        Kind::Data => {
            let offset = bytes.get_u64();
            bytes.advance(2);
            Frame::Data { offset, payload: bytes }
        }
        Kind::Ack => Frame::Ack { received: bytes.get_u64(), limit: bytes.get_u64() },
        Kind::Blocked => Frame::Blocked { limit: bytes.get_u64() },
        Kind::Fin => Frame::Fin { offset: bytes.get_u64() },
        Kind::FinAck => Frame::FinAck { offset: bytes.get_u64() },
        Kind::Reset => Frame::Reset { code: Code::from(bytes.get_u16()) },
        Kind::Done => Frame::Done,
        Kind::Ping => Frame::Ping,
        Kind::Pong => Frame::Pong,
    })
}

fn parse_hello(mut bytes: Bytes) -> Result<Frame, FrameError> {
    bytes.advance(1);
    let stream = StreamId::from_bytes(bytes.get_u128().to_be_bytes());
    let (epoch, limit) = (bytes.get_u32(), bytes.get_u64());
    let name_bytes = usize::from(bytes.get_u8());
    bytes.advance(2);
    let name = bytes.split_to(name_bytes);
    let service = str::from_utf8(&name).ok().and_then(|name| Service::new(name).ok());
    let service = service.ok_or(FrameError::Service)?;
    // A copy, so that a ticket that is kept does not pin the read buffer.
    let ticket = Bytes::copy_from_slice(&bytes);
    Ok(Frame::Hello(Box::new(Hello { stream, epoch, limit, service, ticket })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::DATA_BYTES_MAX, *};

    fn samples() -> Vec<Frame> {
        let stream = StreamId::from_bytes([7; 16]);
        let service = Service::new("grpc").unwrap();
        let ticket = Bytes::from(vec![9; TICKET_BYTES_MAX]);
        vec![
            Frame::Hello(Box::new(Hello { stream, epoch: 3, limit: 4, service, ticket })),
            Frame::Move(Move { stream, epoch: 1, received: 2, limit: u64::MAX }),
            Frame::Attached(Attached { epoch: u32::MAX, received: 2, limit: 3 }),
            Frame::Data { offset: 5, payload: Bytes::from_static(b"x") },
            Frame::Data { offset: u64::MAX, payload: Bytes::from(vec![1; DATA_BYTES_MAX]) },
            Frame::Ack { received: 1, limit: 2 },
            Frame::Blocked { limit: 6 },
            Frame::Fin { offset: 7 },
            Frame::FinAck { offset: 8 },
            Frame::Reset { code: Code::Stale },
            Frame::Reset { code: Code::Other(999) },
            Frame::Done,
            Frame::Ping,
            Frame::Pong,
        ]
    }

    fn feed(decoder: &mut Decoder, mut bytes: &[u8], step: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let taken = bytes.len().min(step).min(space.len());
            space[..taken].copy_from_slice(&bytes[..taken]);
            decoder.filled(taken);
            bytes = &bytes[taken..];
            while let Some(frame) = decoder.decode().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn every_frame_survives_the_wire_however_it_is_cut() {
        let mut bytes = BytesMut::new();
        samples().iter().for_each(|frame| frame.encode(&mut bytes));
        for step in [1, 2, 7, 1000, 1 << 20] {
            let mut decoder = Decoder::new();
            assert_eq!(feed(&mut decoder, &bytes, step), samples(), "step {step}");
            assert!(!decoder.is_partial());
        }
    }

    #[test]
    fn an_unknown_kind_is_an_error_at_its_first_byte() {
        for kind in [0, 13, 255] {
            let mut decoder = Decoder::new();
            decoder.space()[0] = kind;
            decoder.filled(1);
            assert_eq!(decoder.decode(), Err(FrameError::Kind(kind)));
        }
    }

    #[test]
    fn another_version_is_told_before_the_rest_is_read() {
        let mut decoder = Decoder::new();
        decoder.space()[..2].copy_from_slice(&[1, 2]);
        decoder.filled(2);
        assert_eq!(decoder.decode(), Err(FrameError::Version(2)));
    }

    #[test]
    fn a_hello_over_its_limits_is_refused_before_it_is_buffered() {
        let head = |name: u8, ticket: u16| {
            let mut bytes = BytesMut::zeroed(HELLO_BYTES);
            bytes[..2].copy_from_slice(&[1, VERSION]);
            bytes[30] = name;
            bytes[31..33].copy_from_slice(&ticket.to_be_bytes());
            let mut decoder = Decoder::new();
            decoder.space()[..HELLO_BYTES].copy_from_slice(&bytes);
            decoder.filled(HELLO_BYTES);
            decoder.decode()
        };
        assert_eq!(head(64, 1024), Ok(None));
        assert_eq!(head(65, 0), Err(FrameError::Service));
        assert_eq!(head(0, 0), Err(FrameError::Service));
        assert_eq!(head(1, 1025), Err(FrameError::Ticket { length: 1025 }));
    }

    #[test]
    fn a_name_with_a_control_character_is_no_service() {
        let mut bytes = BytesMut::new();
        samples()[0].encode(&mut bytes);
        bytes[HELLO_BYTES] = b'\n';
        let mut decoder = Decoder::new();
        let space = decoder.space();
        space[..1024].copy_from_slice(&bytes[..1024]);
        decoder.filled(1024);
        decoder.space()[..bytes.len() - 1024].copy_from_slice(&bytes[1024..]);
        decoder.filled(bytes.len() - 1024);
        assert_eq!(decoder.decode(), Err(FrameError::Service));
    }

    #[test]
    fn a_decoder_holds_one_unfinished_frame_and_a_parked_one_nothing() {
        let mut bytes = BytesMut::new();
        (0..3).for_each(|_| samples()[4].encode(&mut bytes));
        let (mut decoder, mut frames) = (Decoder::new(), 0);
        for piece in bytes.chunks(1000) {
            decoder.feed(piece);
            while decoder.decode().unwrap().is_some() {
                frames += 1;
            }
            assert!(decoder.buffer.capacity() <= DATA_HEAD_BYTES + DATA_BYTES_MAX + piece.len());
            decoder.park();
        }
        assert_eq!((frames, decoder.is_partial(), decoder.buffer.capacity()), (3, false, 0));
    }

    #[test]
    fn feeding_is_the_same_as_reading_into_the_space() {
        let mut bytes = BytesMut::new();
        samples().iter().for_each(|frame| frame.encode(&mut bytes));
        for step in [1, 3, 5000, 1 << 20] {
            let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
            for piece in bytes.chunks(step) {
                decoder.space();
                decoder.feed(piece);
                while let Some(frame) = decoder.decode().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, samples(), "step {step}");
        }
    }

    #[test]
    fn every_code_keeps_its_number() {
        for value in 0..=u16::MAX {
            assert_eq!(u16::from(Code::from(value)), value);
        }
    }
}
