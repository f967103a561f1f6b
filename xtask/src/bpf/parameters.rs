//! How many parameters the functions of an object have, by its BTF (the kernel's Documentation/bpf/btf.rst).
//!
//! Five registers carry them. The compiler leaves out those that nobody needs, and BTF goes on to name them: from 7.2 on the
//! kernel's verifier looks for the sixth on the stack and refuses the program; so the build refuses first.

use super::symbols::{content, number, sections, text};

/// What registers carry.
pub const MOST: usize = 5;

/// Functions with more than [`MOST`].
#[must_use]
pub fn too_many(object: &[u8]) -> Vec<String> {
    let functions = btf(object).and_then(functions).unwrap_or_default();
    functions.into_iter().filter(|(_, parameters)| *parameters > MOST).map(|(name, _)| name).collect()
}

/// The section `.BTF`: the one that begins with the magic number, little-endian, and the version.
fn btf(object: &[u8]) -> Option<&[u8]> {
    sections(object)?.filter_map(|section| content(object, section)).find(|c| c.starts_with(&[0x9f, 0xeb, 1]))
}

const FUNC: usize = 12;
/// A type's three words: name, kind and how many parts it has, and a type or size.
const TYPE: usize = 12;

/// Each function's name and how many parameters its type has.
fn functions(btf: &[u8]) -> Option<Vec<(String, usize)>> {
    let word = |at| number(btf, at, 4);
    let (header, strings) = (word(4)?, word(4)?.checked_add(word(16)?)?);
    let (mut at, end) =
        (header.checked_add(word(8)?)?, header.checked_add(word(8)?)?.checked_add(word(12)?)?);
    // Number 0 is no type.
    let (mut parts, mut found) = (vec![0], Vec::new());
    while at < end {
        let (name, info, of) = (word(at)?, word(at + 4)?, word(at + 8)?);
        let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
        parts.push(count);
        if kind == FUNC {
            found.push((text(btf.get(strings..)?, name)?, of));
        }
        at += TYPE + behind(kind, count);
    }
    found.into_iter().map(|(name, of)| Some((name, *parts.get(of)?))).collect()
}

/// Bytes behind a type's three words.
const fn behind(kind: usize, count: usize) -> usize {
    match kind {
        // An integer, a variable, the tag of a declaration.
        1 | 14 | 17 => 4,
        // An array.
        3 => 12,
        // A structure, a union, sections of data, an enumeration of 64 bits.
        4 | 5 | 15 | 19 => 12 * count,
        // An enumeration, the parameters of a function.
        6 | 13 => 8 * count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An integer, a function type of so many parameters, and a function of it.
    fn object(parameters: u32) -> Vec<u8> {
        let mut types = vec![0, 1 << 24, 4, 32, 0, 13 << 24 | parameters, 1];
        types.extend((0..parameters).flat_map(|_| [0, 1]));
        types.extend([1, 12 << 24, 2]);
        let length = 4 * types.len() as u32;
        let words = [0x0001_eb9f, 24, 0, length, length, 7].into_iter().chain(types);
        let btf: Vec<u8> = words.flat_map(u32::to_le_bytes).chain(*b"\0quick\0").collect();
        let mut out = vec![0_u8; 128];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x28, &64_u64.to_le_bytes());
        put(0x3a, &64_u16.to_le_bytes());
        put(0x3c, &1_u16.to_le_bytes());
        put(64 + 24, &128_u64.to_le_bytes());
        put(64 + 32, &(btf.len() as u64).to_le_bytes());
        out.extend(btf);
        out
    }

    #[test]
    fn the_sixth_parameter_is_one_too_many() {
        assert_eq!(too_many(&object(6)), ["quick"]);
        assert!(too_many(&object(5)).is_empty());
    }

    #[test]
    fn cut_objects_do_not_crash_the_reader() {
        let whole = object(6);
        for len in 0..whole.len() {
            assert!(too_many(&whole[..len]).len() <= 1);
        }
    }
}
