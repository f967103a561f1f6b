//! What the fuzz targets do with an input, apart from the fuzzer: an ordinary test replays the corpora through it.

pub mod capture;
pub mod flow;
pub mod frame;
pub mod op;
