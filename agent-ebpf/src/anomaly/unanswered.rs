//! A request without an answer: client payload that no server payload followed before the flow ended.
//!
//! The capture tool's "HTTP status 0". A client's TLS alert before its FIN asks for nothing and is no request
//! (RFC 8446, 6.1).

use super::Hit;
use crate::{facts::Facts, label::Side};

/// Asks whether the flow ended with this segment and left a request unanswered; counted for the client.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit { side: Some(Side::Client), ..Hit::when(f.unanswered > 0, 1, 0) }
}
