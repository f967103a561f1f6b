//! Which kernel is this?

use std::fmt;

/// The two numbers that say what a kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// The first that tells how many instructions it verified.
    pub const TELLS: Self = Self(5, 16);
    /// The first with tcx.
    pub const TCX: Self = Self(6, 6);

    /// The one that runs.
    pub fn running() -> Self {
        let kernel = agent::preflight::Kernel::read(&[]);
        let (major, minor) = kernel.version();
        println!("Linux {}", kernel.release);
        Self(major, minor)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
