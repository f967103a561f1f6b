//! A map of one entry, which holds any bytes: for what the agent itself keeps in the kernel.

use super::{
    bpf,
    map::{BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, Create, Element},
    pin::{self, Facts},
};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// A map of one entry.
pub struct Cell {
    fd: OwnedFd,
    size: usize,
}

impl Cell {
    /// Make one that holds these bytes.
    pub fn holding(value: &[u8]) -> io::Result<Self> {
        let (key_size, value_size) = (4, u32::try_from(value.len()).map_err(io::Error::other)?);
        let create =
            Create { map_type: BPF_MAP_TYPE_ARRAY, key_size, value_size, max_entries: 1, map_flags: 0 };
        let cell = Self { fd: create.make()?, size: value.len() };
        cell.set(value)?;
        Ok(cell)
    }

    /// The one that is pinned at a path; `None` where nothing is, an error where something else is.
    pub fn pinned(path: &Path) -> io::Result<Option<Self>> {
        let Some(fd) = pin::get(path)? else { return Ok(None) };
        let facts = Facts::of(fd.as_fd())?;
        let shape = ["map_type", "key_size", "max_entries"].map(|name| facts.number(name));
        match facts.number("value_size") {
            Some(size) if shape == [Some(BPF_MAP_TYPE_ARRAY), Some(4), Some(1)] => {
                Ok(Some(Self { fd, size: size as usize }))
            }
            _ => Err(io::Error::other("it is no array of one entry")),
        }
    }

    /// Pin it, in the place of what was pinned there; who is killed has done it or has not.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_file_name("new");
        if let Err(e) = std::fs::remove_file(&beside)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e);
        }
        pin::put(self.fd.as_fd(), &beside)?;
        std::fs::rename(beside, path)
    }

    /// What it holds.
    pub fn get(&self) -> io::Result<Vec<u8>> {
        let mut value = vec![0; self.size.next_multiple_of(8)];
        self.call(BPF_MAP_LOOKUP_ELEM, value.as_mut_ptr() as u64)?;
        value.truncate(self.size);
        Ok(value)
    }

    /// Set it, all at once: who is killed has done it or has not.
    pub fn set(&self, value: &[u8]) -> io::Result<()> {
        if value.len() != self.size {
            return Err(io::Error::other("the value has another size"));
        }
        self.call(BPF_MAP_UPDATE_ELEM, value.as_ptr() as u64)
    }

    fn call(&self, command: i32, value: u64) -> io::Result<()> {
        let first = 0u32;
        bpf(command, &mut Element::new(self.fd.as_fd(), &first, value, 0)).map(drop)
    }
}
