//! Any bytes, cut anywhere: an error, or frames that say the same when encoded again.

use bytes::BytesMut;
use punchline_bridge::stream::frame::{DATA_BYTES_MAX, Decoder};

/// One DATA frame of the largest size: more is never offered to a read.
const SPACE_BYTES_MAX: usize = DATA_BYTES_MAX + 11;

/// The first byte of the input says how many bytes less one come at a time; the rest are the bytes.
pub fn run(input: &[u8]) {
    let Some((cut, mut bytes)) = input.split_first() else { return };
    let (mut decoder, mut said) = (Decoder::new(), BytesMut::new());
    let all = bytes;
    while !bytes.is_empty() {
        let space = decoder.space();
        assert!((1..=SPACE_BYTES_MAX).contains(&space.len()), "room for {} bytes", space.len());
        let read = bytes.len().min(space.len()).min(usize::from(*cut) + 1);
        space[..read].copy_from_slice(&bytes[..read]);
        decoder.filled(read);
        bytes = &bytes[read..];
        loop {
            match decoder.decode() {
                Ok(Some(frame)) => frame.encode(&mut said),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        if !decoder.is_partial() {
            decoder.park();
        }
    }
    assert!(all.starts_with(&said), "a frame says something else when encoded again");
}
