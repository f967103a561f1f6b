//! The programs in the kernel and the library on the host are one: the same frames through both, and then every table,
//! count and record compared, byte for byte.
//!
//! [`packet`] is what goes in, [`rig`] the kernel's side and the comparison, [`captured`] takes what real kernels sent.

pub mod captured;
pub mod packet;
pub mod rig;
