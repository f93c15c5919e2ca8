#![allow(clippy::unwrap_used)]
use bytes::BytesMut;

use super::{super::DATA_BYTES_MAX, *};

fn samples() -> Vec<Frame> {
    let stream = StreamId::from_bytes([7; 16]);
    let service = Service::new("grpc").unwrap();
    let ticket = Bytes::from(vec![9; TICKET_BYTES_MAX]);
    let (shortest, none) = (Service::new("x").unwrap(), Bytes::new());
    vec![
        Frame::Hello(Box::new(Hello { stream, epoch: 3, features: 1 << 31, limit: 4, service, ticket })),
        Frame::Hello(Box::new(Hello {
            stream,
            epoch: 0,
            features: 0,
            limit: 0,
            service: shortest,
            ticket: none,
        })),
        Frame::Move(Move { stream, epoch: 1, received: 2, limit: u64::MAX }),
        Frame::Attached(Attached { epoch: u32::MAX, features: 5, received: 2, limit: 3 }),
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
        Frame::Lower { limit: 9 },
        Frame::Lowered { limit: 10 },
    ]
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

fn is_partial(decoder: &Decoder) -> bool {
    !decoder.held.is_empty() || !matches!(decoder.rest, Rest::Nothing)
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
    for kind in [0, 15, SKIPPED_KIND_MIN - 1] {
        let error = Err(FrameError::Kind(kind));
        assert_eq!(decoded(&mut Decoder::new(), &[kind], 1), error);
    }
}

/// What a later version may say to this one.
fn skippable(kind: u8, length: u16) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(SKIPPED_HEAD_BYTES + usize::from(length), Kind::Data as u8);
    bytes
}

#[test]
fn frames_of_kinds_that_may_be_skipped_change_nothing_wherever_they_come() {
    let mut bytes = Vec::new();
    for (at, frame) in samples().into_iter().enumerate() {
        let kind = SKIPPED_KIND_MIN + at as u8;
        bytes.extend(skippable(kind, [0, 1, 700, u16::MAX][at % 4]));
        bytes.extend(skippable(u8::MAX, 2));
        bytes.extend_from_slice(&encoded(&[frame]));
    }
    for step in [1, 2, 7, 1000, 1 << 20] {
        let mut decoder = Decoder::new();
        assert_eq!(decoded(&mut decoder, &bytes, step), Ok(samples()), "step {step}");
        assert!(!is_partial(&decoder));
    }
}

#[test]
fn what_is_skipped_is_not_held_and_tells_how_much_is_missing() {
    let bytes = skippable(SKIPPED_KIND_MIN, u16::MAX);
    let mut decoder = Decoder::new();
    let (mut first, mut rest) = bytes.split_at(1000);
    assert_eq!(decoder.decode(&mut first), Ok(None));
    assert_eq!((decoder.held.capacity(), decoder.payload(), decoder.stretch()), (0, None, None));
    assert_eq!(decoder.missing(), rest.len());
    let data = encoded(&[Frame::Data { offset: 7, payload: vec![1; 4].into() }]);
    assert_eq!(decoder.data_alone(&data), None, "it belongs to what is skipped");
    assert_eq!(decoder.decode(&mut rest), Ok(None));
    assert!(!is_partial(&decoder));
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
        bytes[HELLO_LENGTHS.start] = name;
        bytes[HELLO_LENGTHS.start + 1..].copy_from_slice(&ticket.to_be_bytes());
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
