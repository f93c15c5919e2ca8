//! Any bytes, cut anywhere: an error, or frames that say the same when encoded again.

use bytes::Bytes;
use punchline_stream::frame::{DATA_HEAD_BYTES, Decoder, Frame, Item, SKIPPED_KIND_MIN};

/// The first byte of the input says how many bytes less one come at a time; the rest are the bytes.
pub fn run(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    let mut said = Said { bytes, at: 0 };
    let (mut decoder, mut read, mut goes_on) = (Decoder::new(), 0, false);
    for mut piece in bytes.chunks(usize::from(*cut) + 1) {
        read += piece.len();
        loop {
            let payload = piece.get(DATA_HEAD_BYTES..).unwrap_or_default();
            let alone = decoder.data_alone(piece).map(|offset| Item::Data { offset, payload });
            let item = decoder.decode(&mut piece);
            if alone.is_some() {
                assert_eq!(item, Ok(alone), "what is one frame is another");
                assert_eq!((decoder.payload(), piece.len()), (None, 0), "it is not alone");
            }
            let mut again = Vec::new();
            match item {
                Ok(Some(Item::Frame(frame))) => frame.encode(&mut again),
                Ok(Some(Item::Data { offset, payload })) => {
                    if !goes_on {
                        let rest = decoder.payload().map_or(0, |(_, left)| left);
                        say_head(offset, payload.len() + rest, &mut again);
                    }
                    again.extend_from_slice(payload);
                    goes_on = decoder.payload().is_some();
                }
                Ok(None) => break,
                Err(_) => return,
            }
            said.ends(&again, read - piece.len());
        }
        assert!(piece.is_empty(), "bytes that were not taken are lost");
        assert!(decoder.missing() > 0);
    }
}

/// What was read, and up to where it is accounted for.
struct Said<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Said<'_> {
    /// What was read up to `end` ends with this item; whatever comes before it may be skipped.
    fn ends(&mut self, item: &[u8], end: usize) {
        let between = &self.bytes[self.at..end];
        assert!(between.ends_with(item), "a frame says something else when encoded again");
        let skipped = &between[..between.len() - item.len()];
        assert!(skipped.first().is_none_or(|kind| *kind >= SKIPPED_KIND_MIN), "a frame is lost");
        self.at = end;
    }
}

fn say_head(offset: u64, length: usize, said: &mut Vec<u8>) {
    let start = said.len();
    Frame::Data { offset, payload: Bytes::from(vec![0; length]) }.encode(said);
    said.truncate(start + DATA_HEAD_BYTES);
}
