//! What is pinned in the kernel's file system for maps, programs and links (bpffs).

use super::{bpf, owned};
use bytemuck::{Pod, Zeroable};
use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;
const BPF_LINK_DETACH: i32 = 34;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pin what is behind a descriptor at a path where nothing is.
pub fn put(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut object = Object { path: name.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(BPF_OBJ_PIN, &mut object).map(drop)
}

/// What is pinned at a path; `None` where nothing is.
pub fn get(path: &Path) -> io::Result<Option<OwnedFd>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match bpf(BPF_OBJ_GET, &mut Object { path: name.as_ptr() as u64, ..Object::zeroed() }) {
        Ok(fd) => Ok(Some(owned(fd))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Take the program of a link off, at once: one that is let go of comes off only when the kernel finds the time.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut (link.as_raw_fd() as u32)).map(drop)
}

/// What the kernel tells of a map, a program or a link, by name: `map_type`, `value_size`, `link_type`, `ifindex` ...
pub struct Facts(HashMap<String, String>);

impl Facts {
    /// Of the object behind a descriptor. Asked in words: the question in structures takes a map for a link.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let fact = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        Ok(Self(text.lines().filter_map(fact).collect()))
    }

    /// A fact in words.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A fact that is a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }
}
