//! Where figures come from: the kernel's maps and its ring.

pub mod services;
