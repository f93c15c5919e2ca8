//! Any bytes, cut anywhere: an error or frames that say the same when encoded again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use punchline_bridge::stream::frame::Decoder;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, mut bytes) = input;
    let (mut decoder, mut said) = (Decoder::new(), BytesMut::new());
    let all = bytes;
    while !bytes.is_empty() {
        let space = decoder.space();
        let read = bytes.len().min(space.len()).min(usize::from(cut) + 1);
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
});
