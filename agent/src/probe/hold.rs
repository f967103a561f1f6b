//! What keeps a program on its interface, and whether it stays there when the agent ends.

use crate::sys::pin::{self, Facts};
use anyhow::{Context as _, Result};
use aya::programs::{links::FdLink, tc::SchedClassifierLink, xdp::XdpLink};
use std::{
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

/// Keeps a program on its interface.
pub enum Hold {
    /// Until this is dropped.
    Xdp(#[expect(dead_code, reason = "held only to be dropped, which detaches")] XdpLink),
    /// Until this is dropped.
    Tc(#[expect(dead_code, reason = "held only to be dropped, which detaches")] SchedClassifierLink),
    /// Until the pin is removed.
    Pinned(PathBuf),
    /// Until somebody removes the filter: it is nobody's.
    Left,
}

impl Hold {
    /// Pin a link: it stays where it is when the agent ends.
    pub fn pin(link: FdLink, path: PathBuf) -> Result<Self> {
        link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        Ok(Self::Pinned(path))
    }

    /// Leave a filter where it is.
    pub fn left(link: SchedClassifierLink) -> Self {
        std::mem::forget(link);
        Self::Left
    }

    /// Whether this is what is pinned there.
    pub fn is_pinned_at(&self, path: &Path) -> bool {
        matches!(self, Self::Pinned(pin) if pin == path)
    }

    /// Take the program off, if that can be done without knowing more.
    pub fn release(self) -> Result<()> {
        match self {
            Self::Pinned(path) => remove_pin(&path),
            Self::Xdp(_) | Self::Tc(_) | Self::Left => Ok(()),
        }
    }
}

/// Remove the pin of a link, if it is there, and take its program off.
pub fn remove_pin(path: &Path) -> Result<()> {
    if let Ok(Some(link)) = pin::get(path)
        && Facts::of(link.as_fd()).is_ok_and(|facts| facts.text("link_type").is_some())
    {
        // Its interface may be gone; and what cannot be taken off at once comes off a moment later.
        let _ = pin::detach(link.as_fd());
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
