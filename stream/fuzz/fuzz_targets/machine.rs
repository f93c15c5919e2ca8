//! An attacker at the other end of one machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| punchline_stream_fuzz::machine::run(input));
