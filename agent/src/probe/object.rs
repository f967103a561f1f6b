//! The kernel object that the agent carries.

use std::borrow::Cow;

/// As it was built.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fivetuple.bpf.o"));

/// What tells it from another build's, taken when it was built: it is large, and every start asks.
pub const DIGEST: &str = env!("OBJECT_DIGEST");

/// An object with its XDP programs as they are, or plain ones for kernels that know no frames in pieces: these differ in their
/// sections' name alone, which is all that a loader goes by.
pub fn with_frags(object: &[u8], frags: bool) -> Cow<'_, [u8]> {
    if frags { object.into() } else { rename(object, b"xdp.frags\0", b"xdp\0\0\0\0\0\0\0").into() }
}

fn rename<const N: usize>(object: &[u8], from: &[u8; N], to: &[u8; N]) -> Vec<u8> {
    let mut out = object.to_vec();
    let mut at = 0;
    while let Some(found) = out[at..].windows(N).position(|window| window == from) {
        at += found;
        out[at..at + N].copy_from_slice(to);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_changed_and_nothing_moves() {
        let object = b"\0xdp.frags\0.relxdp.frags\0xdp.fragsx\0";
        let renamed = rename(object, b"xdp.frags\0", b"xdp\0\0\0\0\0\0\0");
        assert_eq!(renamed, b"\0xdp\0\0\0\0\0\0\0.relxdp\0\0\0\0\0\0\0xdp.fragsx\0");
    }
}
