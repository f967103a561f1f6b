//! TCP inside tunnels, for carriers that ask for it; the kernel's programs do not.
