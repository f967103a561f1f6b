//! Memory that the kernel's programs write and this process reads.

use bytemuck::Pod;
use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
};

/// The first entry of an array map that can be mapped (`BPF_F_MMAPABLE`, Linux 5.5), to be read.
#[derive(Debug)]
pub struct Shared<T> {
    at: NonNull<T>,
    of: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl<T: Pod + Send> Send for Shared<T> {}

impl<T: Pod> Shared<T> {
    /// Of a map whose entries are of `T`'s size.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping, where the kernel likes.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), size_of::<T>(), libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(Self { at: at.cast(), of: PhantomData }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What stands there after `write`, which has a program write it and returns when that has ended.
    pub fn after<R>(&mut self, write: impl FnOnce() -> io::Result<R>) -> io::Result<(R, &T)> {
        let done = write()?;
        // SAFETY: mapped, of this size, and any bytes are a `T`; whoever has the program write it has this object to himself,
        // and the reference ends before the next time.
        Ok((done, unsafe { self.at.as_ref() }))
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference is left.
        unsafe { libc::munmap(self.at.as_ptr().cast(), size_of::<T>()) };
    }
}
