//! The names in an ELF object's symbol table.
//!
//! A panic that the compiler could not rule out links `core::panicking` into the object. The kernel's verifier then
//! refuses the whole program with "last insn is not an exit or jmp", which helps nobody; so the build refuses first.

/// Functions that only a reachable panic brings in.
#[must_use]
pub fn reachable_panics(object: &[u8]) -> Vec<String> {
    symbols(object).into_iter().filter(|name| name.contains("panicking")).collect()
}

const SECTION_SYMTAB: u64 = 2;
const SYMBOL_SIZE: usize = 24;

/// All names in the symbol tables of a 64-bit little-endian object. What is cut short or is not ELF has none.
fn symbols(object: &[u8]) -> Vec<String> {
    names(object).unwrap_or_default()
}

fn names(object: &[u8]) -> Option<Vec<String>> {
    let headers: Vec<_> = sections(object)?.collect();
    let mut out = Vec::new();
    for section in &headers {
        if number(section, 4, 4)? as u64 != SECTION_SYMTAB {
            continue;
        }
        let strings = object.get(number(headers.get(number(section, 40, 4)?)?, 24, 8)?..)?;
        for symbol in content(object, section)?.chunks_exact(SYMBOL_SIZE) {
            out.push(text(strings, number(symbol, 0, 4)?)?);
        }
    }
    Some(out)
}

/// The section headers of a 64-bit little-endian object, each with what stands behind it.
pub(super) fn sections(object: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (table, entry, count) =
        (number(object, 0x28, 8)?, number(object, 0x3a, 2)?, number(object, 0x3c, 2)?);
    let header = move |i: usize| object.get(table.checked_add(i.checked_mul(entry)?)?..);
    Some((0..count).map_while(header))
}

/// What the section of this header holds.
pub(super) fn content<'a>(object: &'a [u8], section: &[u8]) -> Option<&'a [u8]> {
    let (at, len) = (number(section, 24, 8)?, number(section, 32, 8)?);
    object.get(at..at.checked_add(len)?)
}

/// The text that begins there.
pub(super) fn text(strings: &[u8], at: usize) -> Option<String> {
    let text = strings.get(at..)?.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A little-endian number of `len` bytes.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let value =
        bytes.get(at..at.checked_add(len)?)?.iter().rev().fold(0_u64, |n, b| (n << 8) | u64::from(*b));
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object of three section headers: none, a symbol table and its strings.
    fn object(names: &[&str]) -> Vec<u8> {
        let (mut strings, mut symbols) = (vec![0_u8], Vec::new());
        for name in names {
            symbols.extend_from_slice(&u32::try_from(strings.len()).unwrap().to_le_bytes());
            symbols.extend_from_slice(&[0; SYMBOL_SIZE - 4]);
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let mut out = vec![0_u8; 64 + 3 * 64];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF");
        put(0x28, &64_u64.to_le_bytes());
        put(0x3a, &64_u16.to_le_bytes());
        put(0x3c, &3_u16.to_le_bytes());
        let (table, list) = (64 + 64, 64 + 128);
        put(table + 4, &2_u32.to_le_bytes());
        put(table + 24, &256_u64.to_le_bytes());
        put(table + 32, &(symbols.len() as u64).to_le_bytes());
        put(table + 40, &2_u32.to_le_bytes());
        put(list + 4, &3_u32.to_le_bytes());
        put(list + 24, &(256 + symbols.len() as u64).to_le_bytes());
        out.extend(symbols);
        out.extend(strings);
        out
    }

    #[test]
    fn a_reachable_panic_is_named() {
        let panic = "_ZN4core9panicking5panic17h0E";
        assert_eq!(symbols(&object(&["ingress", panic])), ["ingress", panic]);
        assert_eq!(reachable_panics(&object(&["ingress", panic])), [panic]);
        assert!(reachable_panics(&object(&["ingress", "egress"])).is_empty());
    }

    #[test]
    fn cut_objects_do_not_crash_the_reader() {
        let whole = object(&["ingress"]);
        for len in 0..whole.len() {
            assert!(symbols(&whole[..len]).len() <= 1);
        }
        assert!(symbols(b"not an object").is_empty());
    }
}
