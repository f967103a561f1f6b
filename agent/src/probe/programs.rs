//! The programs as they are at hand: of the object that was loaded, or pinned.

use crate::{pins::programs::NEEDED, source::maps};
use agent_ebpf::layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS};
use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{ProgramFd, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use std::path::Path;

/// The programs that hang on interfaces.
pub enum Programs {
    /// They go with the agent.
    Loaded(Box<Ebpf>),
    /// They outlive it.
    Pinned(Box<Pinned>),
}

/// Programs that are pinned.
pub struct Pinned {
    xdp: Option<Xdp>,
    /// Of ingress and of egress.
    tc: [SchedClassifier; 2],
}

impl Pinned {
    fn tc(name: &str) -> usize {
        usize::from(name == TC_EGRESS)
    }
}

impl Programs {
    /// Those that are pinned in a directory.
    pub fn pinned(home: &Path) -> Result<Self> {
        let at = home.join(XDP_INGRESS);
        let xdp = at.exists().then(|| Xdp::from_pin(&at, XdpAttachType::Interface)).transpose()?;
        let [ingress, egress] =
            [TC_INGRESS, TC_EGRESS].map(|name| SchedClassifier::from_pin(home.join(name)));
        Ok(Self::Pinned(Box::new(Pinned { xdp, tc: [ingress?, egress?] })))
    }

    /// The one for XDP.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        let xdp = match self {
            Self::Loaded(ebpf) => ebpf.program_mut(XDP_INGRESS).map(TryInto::try_into).transpose()?,
            Self::Pinned(pinned) => pinned.xdp.as_mut(),
        };
        xdp.context("there is no XDP program")
    }

    /// One for tc.
    pub fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        match self {
            Self::Loaded(ebpf) => {
                Ok(ebpf.program_mut(name).context("there is no such program")?.try_into()?)
            }
            Self::Pinned(pinned) => Ok(&mut pinned.tc[Pinned::tc(name)]),
        }
    }

    /// A handle of one, if it is loaded.
    pub fn fd(&self, name: &str) -> Option<&ProgramFd> {
        match self {
            Self::Loaded(ebpf) => ebpf.program(name)?.fd().ok(),
            Self::Pinned(pinned) if name == XDP_INGRESS => pinned.xdp.as_ref()?.fd().ok(),
            Self::Pinned(pinned) => pinned.tc[Pinned::tc(name)].fd().ok(),
        }
    }
}

/// Pins the programs of an object, those that are loaded and those that the daemon runs itself.
pub fn pin(ebpf: &mut Ebpf, home: &Path) -> Result<()> {
    maps::load_own(ebpf)?;
    for (name, program) in ebpf.programs_mut().filter(|(_, program)| program.fd().is_ok()) {
        program.pin(home.join(name)).with_context(|| format!("cannot pin the program {name}"))?;
    }
    debug_assert!(NEEDED.iter().all(|name| home.join(name).exists()), "all are loaded");
    Ok(())
}
