//! How many processors there may be: a per-CPU map has a value for each of them, also for those that are off.

use std::{fs, io, sync::OnceLock};

/// Their number. From /sys, and in a container that has none from /proc, which heads a column for each of them, too.
///
/// # Errors
/// Where neither can be read.
pub fn processors() -> io::Result<usize> {
    static KNOWN: OnceLock<usize> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let listed = fs::read_to_string("/sys/devices/system/cpu/possible").ok().and_then(|text| listed(&text));
    let number = match listed {
        Some(number) => number,
        None => headed(&fs::read_to_string("/proc/softirqs")?)
            .ok_or_else(|| io::Error::other("neither /sys nor /proc tells how many processors there are"))?,
    };
    Ok(*KNOWN.get_or_init(|| number))
}

/// Of a list of ranges: `0-3,8`.
fn listed(text: &str) -> Option<usize> {
    let range = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.parse::<usize>().ok()? + 1).checked_sub(first.parse().ok()?)
    };
    text.trim().split(',').map(range).sum()
}

/// Of a heading: `CPU0 CPU1`.
fn headed(text: &str) -> Option<usize> {
    let names = text.lines().next()?.split_whitespace();
    let number = names.filter(|name| name.starts_with("CPU")).count();
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_tell_the_same() {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let number = processors().unwrap();
        assert_eq!(listed(&read("/sys/devices/system/cpu/possible")), Some(number));
        assert_eq!(headed(&read("/proc/softirqs")), Some(number));
    }

    #[test]
    fn ranges_are_summed_up() {
        assert_eq!(listed("0\n"), Some(1));
        assert_eq!(listed("0-3,8-11,16\n"), Some(9));
        assert_eq!((listed(""), listed("3-1"), headed("\n")), (None, None, None));
    }
}
