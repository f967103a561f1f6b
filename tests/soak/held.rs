//! What a process holds in the kernel: its maps and programs, and the memory of the maps.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use nix::unistd::Pid;

/// Maps and programs, by what the kernel calls them, and the bytes that it counts for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(BTreeMap<String, u64>);

impl Held {
    /// Of a process, now.
    pub fn by(pid: Pid) -> Result<Self> {
        let mut held = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // Sockets come and go while this is read.
            let info = fs::read_to_string(entry?.path()).unwrap_or_default();
            held.extend(object(&info));
        }
        Ok(Self(held))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Bytes that the kernel counts for the maps.
    pub fn map_bytes(&self) -> u64 {
        self.0.iter().filter(|(name, _)| name.starts_with("map")).map(|(_, bytes)| bytes).sum()
    }
}

/// The map or program that a descriptor is, by what the kernel says of it.
fn object(info: &str) -> Option<(String, u64)> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    let bytes = field("memlock")?;
    // A link names its program as well.
    if field("link_id").is_some() {
        return None;
    }
    let name = field("map_id").map(|id| format!("map {id}"));
    Some((name.or_else(|| field("prog_id").map(|id| format!("program {id}")))?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_programs_are_told_from_the_rest() {
        assert_eq!(object("pos:\t0\nmemlock:\t4096\nmap_id:\t7\n"), Some(("map 7".to_owned(), 4096)));
        assert_eq!(object("memlock:\t8192\nprog_id:\t9\n"), Some(("program 9".to_owned(), 8192)));
        assert_eq!(object("pos:\t0\nflags:\t02\n"), None);
    }
}
