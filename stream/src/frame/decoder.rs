//! From the bytes of a substream to frames.

use bytes::{Buf, Bytes};

use super::{
    super::StreamId, Attached, Code, DATA_HEAD_BYTES, Frame, Hello, Kind, Move, TICKET_BYTES_MAX,
    VERSION,
};
use crate::service::{SERVICE_NAME_BYTES_MAX, Service};

const HELLO_BYTES: usize = 33;
const MOVE_BYTES: usize = 38;
const ATTACHED_BYTES: usize = 21;
const ACK_BYTES: usize = 17;
const OFFSET_BYTES: usize = 9;
const RESET_BYTES: usize = 3;

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
///
/// Holds what has begun and is not whole: at most one HELLO. Of DATA only the head is ever held.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    /// The payload of the DATA frame that has begun: where it goes on, and how much is to come.
    payload: Option<(u64, usize)>,
}

/// All of a frame but the payload of DATA.
enum Word {
    Frame(Frame),
    Data { offset: u64, length: usize },
}

impl Decoder {
    /// A decoder at the start of a leg.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes at least belong to the frame that has begun, or to the next one.
    pub fn missing(&self) -> usize {
        let word = || word_bytes(&self.held).ok().flatten().unwrap_or(HELLO_BYTES);
        match self.payload {
            Some((_, left)) => left,
            None if self.held.is_empty() => 1,
            None => word().saturating_sub(self.held.len()),
        }
    }

    /// The payload that comes next on the leg, if payload does: where it starts in the stream, and
    /// its bytes.
    pub fn payload(&self) -> Option<(u64, usize)> {
        self.payload
    }

    /// To the end of the payload that has begun, and of the head after it, if that is far. Who reads so much
    /// at most finds the next payload at the front of what he reads next, where it need not be moved.
    pub fn stretch(&self) -> Option<usize> {
        let left = self.payload.map(|(_, left)| left).filter(|left| *left >= STRETCH_BYTES_MIN);
        left.map(|left| left + DATA_HEAD_BYTES)
    }

    /// The next item at the front of `input`, which is cut off it; `None` if more must be read first:
    /// then all of `input` is taken.
    ///
    /// # Errors
    /// If the bytes are no frame. The leg cannot be read any further.
    #[inline]
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, FrameError> {
        if self.payload.is_none()
            && !self.begins_data(input)
            && let Some(frame) = self.frame(input)?
        {
            return Ok(Some(Item::Frame(frame)));
        }
        let next = self.payload.filter(|_| !input.is_empty());
        Ok(next.map(|(offset, left)| {
            let payload = cut(input, left);
            let rest = left - payload.len();
            self.payload = (rest > 0).then(|| (offset.saturating_add(payload.len() as u64), rest));
            Item::Data { offset, payload }
        }))
    }

    /// Where the payload of `input` starts in the stream, if `input` is one whole DATA frame and nothing else:
    /// what mostly comes of small messages. Then there is nothing left to decode.
    #[inline]
    pub fn data_alone(&self, input: &[u8]) -> Option<u64> {
        let (head, payload) = input.split_first_chunk::<DATA_HEAD_BYTES>()?;
        let between = self.payload.is_none() && self.held.is_empty();
        let (offset, length) = parse_data(&head[1..]);
        (between && head[0] == Kind::Data as u8 && length == payload.len()).then_some(offset)
    }

    /// Takes the head of a DATA frame, if one is at the front and whole: what mostly comes.
    #[inline]
    fn begins_data(&mut self, input: &mut &[u8]) -> bool {
        let Some((head, rest)) = input.split_first_chunk::<DATA_HEAD_BYTES>() else { return false };
        let begins = self.held.is_empty() && head[0] == Kind::Data as u8;
        if begins {
            (self.payload, *input) = (Some(parse_data(&head[1..])), rest);
        }
        begins
    }

    /// The next frame, unless it is DATA, which begins, or not whole.
    fn frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        Ok(match self.word(input)? {
            None => None,
            Some(Word::Frame(frame)) => Some(frame),
            Some(Word::Data { offset, length }) => {
                self.payload = Some((offset, length));
                None
            }
        })
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

/// The length of the frame (for DATA: of its head) that `read` begins with, once that is told.
fn word_bytes(read: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = read.first() else {
        return Ok(None);
    };
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
        Kind::Blocked | Kind::Fin | Kind::FinAck => OFFSET_BYTES,
        Kind::Reset => RESET_BYTES,
        Kind::Done | Kind::Ping | Kind::Pong => 1,
    }))
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

/// Reads one frame, or the head of DATA; `bytes` has exactly the length that [`word_bytes`] found.
fn parse(mut bytes: &[u8]) -> Result<Word, FrameError> {
    Ok(Word::Frame(match kind(bytes.get_u8())? {
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
    }))
}

/// Where the payload of DATA starts, and its length.
fn parse_data(mut bytes: &[u8]) -> (u64, usize) {
    (bytes.get_u64(), usize::from(bytes.get_u16()) + 1)
}

fn parse_hello(mut bytes: &[u8]) -> Result<Word, FrameError> {
    bytes.advance(1);
    let stream = StreamId::from_bytes(bytes.get_u128().to_be_bytes());
    let (epoch, limit) = (bytes.get_u32(), bytes.get_u64());
    let name_bytes = usize::from(bytes.get_u8());
    bytes.advance(2);
    let name = cut(&mut bytes, name_bytes);
    let service = str::from_utf8(name).ok().and_then(|name| Service::new(name).ok());
    let service = service.ok_or(FrameError::Service)?;
    let ticket = Bytes::copy_from_slice(bytes);
    Ok(Word::Frame(Frame::Hello(Box::new(Hello { stream, epoch, limit, service, ticket }))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BytesMut;

    use super::{super::DATA_BYTES_MAX, *};

    fn samples() -> Vec<Frame> {
        let stream = StreamId::from_bytes([7; 16]);
        let service = Service::new("grpc").unwrap();
        let ticket = Bytes::from(vec![9; TICKET_BYTES_MAX]);
        let (shortest, none) = (Service::new("x").unwrap(), Bytes::new());
        vec![
            Frame::Hello(Box::new(Hello { stream, epoch: 3, limit: 4, service, ticket })),
            Frame::Hello(Box::new(Hello {
                stream,
                epoch: 0,
                limit: 0,
                service: shortest,
                ticket: none,
            })),
            Frame::Move(Move { stream, epoch: 1, received: 2, limit: u64::MAX }),
            Frame::Attached(Attached { epoch: u32::MAX, received: 2, limit: 3 }),
            Frame::Data { offset: 5, payload: Bytes::from_static(b"x") },
            Frame::Data { offset: 1 << 63, payload: Bytes::from(vec![1; DATA_BYTES_MAX]) },
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

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    fn is_partial(decoder: &Decoder) -> bool {
        !decoder.held.is_empty() || decoder.payload.is_some()
    }

    /// Decodes `bytes`, `step` at a time, and puts the pieces of payload together.
    fn decoded(decoder: &mut Decoder, bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(item) = decoder.decode(&mut piece)? {
                match item {
                    Item::Frame(frame) => frames.push(frame),
                    Item::Data { offset, payload } => join(&mut frames, offset, payload),
                }
            }
            assert_eq!(piece, b"", "what is not taken is lost");
        }
        Ok(frames)
    }

    fn join(frames: &mut Vec<Frame>, offset: u64, more: &[u8]) {
        match frames.last_mut() {
            Some(Frame::Data { offset: start, payload }) if *start + payload.len() as u64 == offset => {
                *payload = [payload, more].concat().into();
            }
            _ => frames.push(Frame::Data { offset, payload: Bytes::copy_from_slice(more) }),
        }
    }

    #[test]
    fn every_frame_survives_the_wire_however_it_is_cut() {
        let bytes = encoded(&samples());
        for step in [1, 2, 7, 1000, 1 << 20] {
            let mut decoder = Decoder::new();
            assert_eq!(decoded(&mut decoder, &bytes, step), Ok(samples()), "step {step}");
            assert!(!is_partial(&decoder));
        }
    }

    #[test]
    fn a_frame_that_is_read_as_it_says_takes_nothing_of_the_next() {
        for frame in samples() {
            let (mut bytes, mut decoder) = (&encoded(&[frame.clone(), Frame::Ping])[..], Decoder::new());
            let mut read = 0;
            loop {
                let mut piece = cut(&mut bytes, decoder.missing());
                assert!(!piece.is_empty(), "it asks for more than there is");
                read += piece.len();
                let item = decoder.decode(&mut piece).unwrap();
                if item.is_some() && !is_partial(&decoder) {
                    break;
                }
            }
            assert_eq!((read, bytes), (encoded(&[frame]).len(), &[Kind::Ping as u8][..]));
        }
    }

    #[test]
    fn payload_comes_in_pieces_that_say_where_they_belong() {
        let bytes = encoded(&[Frame::Data { offset: 40, payload: vec![1; 100].into() }, Frame::Ping]);
        let (mut first, mut rest) = bytes.split_at(DATA_HEAD_BYTES + 30);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.payload(), None);
        let item = decoder.decode(&mut first).unwrap();
        assert_eq!(item, Some(Item::Data { offset: 40, payload: &[1; 30] }));
        assert_eq!(decoder.payload(), Some((70, 70)));
        let item = decoder.decode(&mut rest).unwrap();
        assert_eq!(item, Some(Item::Data { offset: 70, payload: &[1; 70] }));
        assert_eq!(decoder.decode(&mut rest).unwrap(), Some(Item::Frame(Frame::Ping)));
    }

    #[test]
    fn reads_of_a_stretch_have_the_payload_of_large_frames_at_their_front() {
        let frame = |offset: u64, bytes| Frame::Data { offset, payload: vec![1; bytes].into() };
        let large = STRETCH_BYTES_MIN + 100;
        let (first, second) = (large as u64, 2 * large as u64);
        let bytes = encoded(&[frame(0, large), frame(first, large), frame(second, 100), Frame::Ping]);
        let (mut decoder, mut rest, mut reads) = (Decoder::new(), &bytes[..], Vec::new());
        assert_eq!(decoder.stretch(), None);
        let mut piece = cut(&mut rest, DATA_HEAD_BYTES + 60);
        while let Some(most) = {
            while decoder.decode(&mut piece).unwrap().is_some() {}
            decoder.stretch()
        } {
            reads.push(most);
            piece = cut(&mut rest, most);
            assert_eq!(piece[0], 1, "payload comes first");
        }
        assert_eq!(reads, [large - 60 + DATA_HEAD_BYTES, large + DATA_HEAD_BYTES]);
        assert_eq!(decoder.payload(), Some((second, 100)), "many small frames come in one read");
    }

    #[test]
    fn the_rest_of_a_frame_is_not_taken_for_the_head_of_data() {
        let frame = Frame::Ack { received: (Kind::Data as u64) << 56, limit: u64::MAX };
        let bytes = encoded(std::slice::from_ref(&frame));
        let (mut first, mut rest) = bytes.split_at(1);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(&mut first).unwrap(), None);
        assert_eq!(decoder.decode(&mut rest).unwrap(), Some(Item::Frame(frame)));
    }

    #[test]
    fn only_a_whole_frame_of_data_between_frames_is_data_alone() {
        let frame = encoded(&[Frame::Data { offset: 7, payload: vec![1; 4].into() }]);
        let alone = |bytes: &[u8]| Decoder::new().data_alone(bytes);
        assert_eq!(alone(&frame), Some(7));
        assert_eq!(alone(&[&frame[..], b"x"].concat()), None, "something follows");
        (0..frame.len()).for_each(|end| assert_eq!(alone(&frame[..end]), None, "{end} bytes of it"));
        assert_eq!(alone(&[&[Kind::Ack as u8], &frame[1..]].concat()), None, "another kind");
        for begun in [&frame[..DATA_HEAD_BYTES], &[Kind::Ack as u8]] {
            let mut decoder = Decoder::new();
            decoder.decode(&mut &begun[..]).unwrap();
            assert_eq!(decoder.data_alone(&frame), None, "after {begun:?}");
        }
    }

    #[test]
    fn an_unknown_kind_is_an_error_at_its_first_byte() {
        for kind in [0, 13, 255] {
            let error = Err(FrameError::Kind(kind));
            assert_eq!(decoded(&mut Decoder::new(), &[kind], 1), error);
        }
    }

    #[test]
    fn another_version_is_told_before_the_rest_is_read() {
        for step in [1, 2] {
            let error = Err(FrameError::Version(2));
            assert_eq!(decoded(&mut Decoder::new(), &[1, 2], step), error);
        }
    }

    #[test]
    fn a_hello_over_its_limits_is_refused_before_it_is_buffered() {
        let head = |name: u8, ticket: u16| {
            let mut bytes = [0; HELLO_BYTES];
            bytes[..2].copy_from_slice(&[1, VERSION]);
            bytes[30] = name;
            bytes[31..].copy_from_slice(&ticket.to_be_bytes());
            decoded(&mut Decoder::new(), &bytes, HELLO_BYTES)
        };
        assert_eq!(head(64, 1024), Ok(vec![]));
        assert_eq!(head(65, 0), Err(FrameError::Service));
        assert_eq!(head(0, 0), Err(FrameError::Service));
        assert_eq!(head(1, 1025), Err(FrameError::Ticket { length: 1025 }));
    }

    #[test]
    fn a_name_with_a_control_character_is_no_service() {
        let mut bytes = encoded(&samples()[..1]);
        bytes[HELLO_BYTES] = b'\n';
        assert_eq!(decoded(&mut Decoder::new(), &bytes, 1000), Err(FrameError::Service));
    }

    #[test]
    fn a_decoder_holds_one_hello_at_most_and_nothing_between_frames() {
        let bytes = encoded(&samples());
        let mut decoder = Decoder::new();
        for piece in bytes.chunks(1) {
            decoded(&mut decoder, piece, 1).unwrap();
            assert!(decoder.held.len() < HELLO_BYTES + SERVICE_NAME_BYTES_MAX + TICKET_BYTES_MAX);
        }
        assert_eq!((is_partial(&decoder), decoder.held.capacity()), (false, 0));
    }

    #[test]
    fn every_code_keeps_its_number() {
        for value in 0..=u16::MAX {
            assert_eq!(u16::from(Code::from(value)), value);
        }
    }
}
