//! Any bytes, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| punchline_stream_fuzz::codec::run(input));
