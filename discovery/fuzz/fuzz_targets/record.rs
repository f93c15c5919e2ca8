//! `cargo fuzz run record`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| punchline_discovery_fuzz::record::run(input));
