//! From what the kernel counted to what is shown. Pure: nothing here asks the kernel for anything.

pub mod metrics;
pub mod snapshot;
