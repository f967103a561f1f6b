//! One frame of any bytes, and anything that a carrier may say of it.
//!
//! An input is five bytes for the carrier, then the frame: what it knows (bit 0 a VLAN tag beside the frame, bit 1 that
//! the frame is longer than what can be read of it, bit 2 a segment size, bit 3 a segment count), then two numbers.

use agent_ebpf::wire::{Frame, Segment, options::MAX_SACK_BLOCKS};

/// Bytes before the frame.
const CARRIER: usize = 5;

struct Carried<'a> {
    bytes: &'a [u8],
    knows: u8,
    first: u16,
    second: u16,
}

impl Carried<'_> {
    fn says<T>(&self, bit: u8, what: T) -> Option<T> {
        (self.knows & 1 << bit != 0).then_some(what)
    }
}

impl Frame for Carried<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    fn wire_len(&self) -> u32 {
        self.bytes.len() as u32 + self.says(1, 16 * u32::from(self.first)).unwrap_or(0)
    }

    fn vlan(&self) -> Option<u16> {
        self.says(0, self.first)
    }

    fn gso_size(&self) -> u32 {
        self.says(2, u32::from(self.second)).unwrap_or(0)
    }

    fn gso_segments(&self) -> u32 {
        self.says(3, u32::from(self.first)).unwrap_or(0)
    }
}

/// Reads the frame.
///
/// # Panics
/// When a length does not fit the frame or the other lengths.
pub fn check(data: &[u8]) {
    let Some(([knows, a, b, c, d], bytes)) = data.split_first_chunk::<CARRIER>() else { return };
    let (first, second) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    let frame = Carried { bytes, knows: *knows, first, second };
    let mut s = Segment::blank();
    if s.read(&frame).is_err() {
        return;
    }
    // What is left of an earlier frame has no part in it.
    let mut again = s;
    (again.payload, again.tls_alert, again.vlans, again.segments) = (7, true, 9, 3);
    assert_eq!(again.read(&frame), Ok(()));
    assert_eq!(again, s, "the same frame, read into used memory");

    let whole = frame.wire_len();
    assert!(s.segments >= 1, "{s:?}");
    assert!(s.payload + 54 <= whole, "{} bytes of payload in a frame of {whole}", s.payload);
    let headers = s.bytes - s.payload;
    assert_eq!(headers % s.segments, 0, "each segment has the same headers: {s:?}");
    let header = headers / s.segments;
    assert!(header >= 40 && header + s.payload + 14 <= whole, "{header} bytes of headers in {whole}");
    assert!(usize::from(s.options.sack_blocks) <= MAX_SACK_BLOCKS, "{:?}", s.options);
    assert!(s.options.window_scale.is_none_or(|shift| shift <= 14), "{:?}", s.options);
    assert!(!s.tls_alert || (7..=64).contains(&s.payload), "an alert of {} bytes", s.payload);
    assert!(s.vlans >> 24 == 0 && (!s.v6 || s.ip_id == 0), "{s:?}");
    assert_eq!(s.end().distance(s.seq) as u32, s.sequence_len());
    for bytes in [0, 1, s.payload, s.sequence_len(), u32::MAX] {
        assert!((1..=s.segments).contains(&s.segments_in(bytes)), "{bytes} of {s:?}");
    }
}
