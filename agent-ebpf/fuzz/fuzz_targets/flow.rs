//! Any list of segments through the pipeline.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| inputs::flow::check(data));
