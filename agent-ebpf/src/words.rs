//! Memory, copied as a kernel program should.

/// Copies a whole value.
///
/// In words: as a call of `memcpy` or `memset`, which the compiler would make of it, a kernel program goes byte by byte,
/// and the verifier with it.
///
/// # Safety
/// `to` must be valid for writes of a `T`.
#[inline(always)]
pub(crate) unsafe fn copy<T: Copy>(from: &T, to: *mut T) {
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: as the caller promises.
    unsafe {
        to.write(*from);
    }
    #[cfg(target_arch = "bpf")]
    {
        use core::mem::MaybeUninit;
        const { assert!(align_of::<T>() == 8 && size_of::<T>() % 8 == 0) }
        let from: *const MaybeUninit<u64> = core::ptr::from_ref(from).cast();
        for i in 0..size_of::<T>() / 8 {
            // SAFETY: both are whole words, aligned to them; padding among them is copied unread.
            unsafe { to.cast::<MaybeUninit<u64>>().add(i).write_volatile(from.add(i).read_volatile()) };
        }
    }
}
