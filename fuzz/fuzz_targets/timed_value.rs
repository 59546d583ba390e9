#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fastsession::fuzzing::run("timed_value", input));
