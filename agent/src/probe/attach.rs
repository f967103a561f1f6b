//! How a program gets onto an interface, and what to say when it does not.

use super::{
    Mount, Probe,
    hold::{Hold, remove_pin},
};
use crate::{
    aggregate::snapshot::Mode,
    config::{Ingress, Interface},
    link::{self, Link},
    netlink,
    pins::{self, programs::Home},
    preflight::{Hook, describe_program, plan},
    sys::program,
    why,
};
use agent_ebpf::{
    label::Direction,
    layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS},
};
use anyhow::{Result, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};
use tracing::{info, warn};

/// Priority and handle of our filters where tc has no links: none that others use, so that what an agent left behind
/// when it was killed is known as ours and is replaced, not doubled.
const PRIORITY: u16 = 5;
const HANDLE: TcHandle = TcHandle::new(0, 0x5f1e);

impl Probe {
    /// Watch an interface as the point of this number, both directions; what is there already stays.
    fn attach(&mut self, point: usize, entry: &Interface, link: &Link) -> Result<()> {
        if !self.has(point, Direction::Ingress) {
            self.attach_ingress(point, entry, link)?;
        }
        if !self.has(point, Direction::Egress) {
            let (mode, hold) = self.tc(TC_EGRESS, link, TcAttachType::Egress)?;
            self.watching(Mount { point, direction: Direction::Egress, mode, hold }, entry, None);
        }
        Ok(())
    }

    fn has(&self, point: usize, direction: Direction) -> bool {
        self.mounts.iter().any(|m| m.point == point && m.direction == direction)
    }

    fn watching(&mut self, mount: Mount, entry: &Interface, reason: Option<&str>) {
        info!(
            point = entry.point,
            interface = entry.name,
            hook = mount.direction.name(),
            mode = mount.mode.name(),
            reason,
            "watching"
        );
        self.mounts.push(mount);
    }

    fn attach_ingress(&mut self, point: usize, entry: &Interface, link: &Link) -> Result<()> {
        let planned = plan(entry.ingress, link);
        let mut reason = planned.reason;
        let mut ingress = None;
        if planned.hook == Hook::Xdp {
            match self.xdp(link) {
                Ok(link) => ingress = Some((Mode::Xdp, link)),
                Err(e) if entry.ingress == Ingress::Auto => reason = why::text(&e),
                Err(e) => {
                    let remedy = format!(
                        "set `ingress: auto` for {}, which takes tc where XDP cannot be had",
                        entry.name
                    );
                    return Err(e.context(format!("cannot watch {} by XDP; {remedy}", entry.name)));
                }
            }
        }
        let (mode, hold) = match ingress {
            Some(done) => {
                if has_filter(link, Direction::Ingress) {
                    // Left by an agent that was killed, and that watched by tc: it would only cost time.
                    remove_filter(link, Direction::Ingress)?;
                }
                done
            }
            None => self.tc(TC_INGRESS, link, TcAttachType::Ingress)?,
        };
        self.watching(Mount { point, direction: Direction::Ingress, mode, hold }, entry, Some(&reason));
        Ok(())
    }

    /// Watch an interface as the point of this number, and put back what others took off it: a link can be detached by whoever
    /// may, and a filter goes when someone deletes the qdisc it hangs on.
    pub fn watch(&mut self, point: usize, entry: &Interface, link: &Link) -> Result<()> {
        let lost = |mount: &&Mount| mount.point == point && !self.is_on(mount, link);
        let directions: Vec<_> = self.mounts.iter().filter(lost).map(|m| m.direction).collect();
        for direction in directions {
            warn!(
                point = entry.point,
                interface = link.name,
                hook = direction.name(),
                "someone took our program off; putting it back"
            );
            self.let_go(|m| m.point == point && m.direction == direction);
        }
        self.attach(point, entry, link)
    }

    /// Whether a program of ours is where it was put; an unclear answer counts as yes.
    fn is_on(&self, mount: &Mount, link: &Link) -> bool {
        let name = match (mount.mode, mount.direction) {
            (Mode::Clsact, direction) => return has_filter(link, direction),
            (Mode::Xdp, _) => XDP_INGRESS,
            (Mode::Tcx, Direction::Ingress) => TC_INGRESS,
            (Mode::Tcx, Direction::Egress) => TC_EGRESS,
        };
        let info = self.programs.fd(name).and_then(|fd| program::program_info(fd.as_fd()).ok());
        let Some(id) = info.map(|info| info.id) else { return true };
        match mount.mode {
            // Where several modes are in use at once the kernel names none of the programs here.
            Mode::Xdp => link.xdp_program.is_some_and(|there| there == id || there == 0),
            _ => program::tcx_programs(link.index, mount.direction).map_or(true, |there| there.contains(&id)),
        }
    }

    fn xdp(&mut self, link: &Link) -> Result<Hold> {
        if let Some(why) = &self.no_xdp {
            return Err(anyhow!("{why}"));
        }
        let pin = self.pin(XDP_INGRESS, link);
        // Of both hooks only one may see a packet.
        self.unpin(TC_INGRESS, link)?;
        let program = self.programs.xdp()?;
        if let Some(path) = &pin
            && let Some(old) = pinned(path, ("xdp", "ingress"), link.index, XDP_INGRESS)?
        {
            match program.attach_to_link(old.try_into()?) {
                Ok(id) => {
                    drop(program.take_link(id)?);
                    return Ok(Hold::Pinned(path.clone()));
                }
                Err(e) => severed(e, path).map_err(|e| explain_xdp(e, link))?,
            }
        }
        let id = program
            .attach_to_if_index(link.index, XdpMode::Driver)
            .map_err(|e| explain_xdp(anyhow!(e), link))?;
        let attached = program.take_link(id)?;
        match pin {
            Some(path) => Hold::pin(FdLink::try_from(attached)?, path),
            None => Ok(Hold::Xdp(attached)),
        }
    }

    fn tc(&mut self, name: &str, link: &Link, side: TcAttachType) -> Result<(Mode, Hold)> {
        let pin = self.pin(name, link);
        if name == TC_INGRESS {
            // Of both hooks only one may see a packet.
            self.unpin(XDP_INGRESS, link)?;
        }
        let program = self.programs.tc(name)?;
        let at = if name == TC_INGRESS { "ingress" } else { "egress" };
        if let Some(path) = &pin
            && let Some(old) = pinned(path, ("tcx", at), link.index, name)?
        {
            match program.attach_to_link(old.try_into()?) {
                Ok(id) => {
                    drop(program.take_link(id)?);
                    return Ok((Mode::Tcx, Hold::Pinned(path.clone())));
                }
                Err(e) => severed(e, path).map_err(|e| explain_tc(e, link))?,
            }
        }
        // First of all: a program before us that ends the chain would blind us.
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let tried = program.attach_with_options(&link.name, side, first).map_err(|e| anyhow!(e));
        let (mode, id) = match tried {
            Ok(id) => (Mode::Tcx, id),
            // No tcx before Linux 6.6.
            Err(e) if super::errno(&e) == Some(libc::EINVAL) => {
                (Mode::Clsact, clsact(program, link, side).map_err(|e| explain_tc(e, link))?)
            }
            Err(e) => return Err(explain_tc(e, link)),
        };
        let attached = program.take_link(id)?;
        let hold = match pin {
            None => Hold::Tc(attached),
            Some(path) if mode == Mode::Tcx => Hold::pin(FdLink::try_from(attached)?, path)?,
            Some(_) => Hold::left(attached),
        };
        Ok((mode, hold))
    }

    /// Where the link of a program to an interface is pinned, if it is to be.
    fn pin(&self, program: &str, link: &Link) -> Option<PathBuf> {
        Some(self.links.as_ref()?.join(format!("{}-{program}", link.index)))
    }

    /// Take a program off an interface that is to be watched by another hook from now on.
    fn unpin(&self, program: &str, link: &Link) -> Result<()> {
        self.pin(program, link).map_or(Ok(()), |path| remove_pin(&path))
    }

    /// Take off what an earlier agent left attached and this one has no use for: at interfaces that are gone, and at
    /// those of these names. Then its programs can go, too.
    pub fn collect(&self, dropped: &[String], links: &[Link]) -> Result<()> {
        let Some(directory) = &self.links else { return Ok(()) };
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if self.mounts.iter().all(|mount| !mount.hold.is_pinned_at(&path)) {
                if let Err(e) = pins::check_any_link(&path) {
                    warn!(error = why::text(&e), "left alone what somebody pinned among our links");
                    continue;
                }
                remove_pin(&path)?;
                info!(pin = %path.display(), "took a program off that is of no use any more");
            }
        }
        let mut dropped = links.iter().filter(|l| dropped.contains(&l.name));
        dropped.try_for_each(|link| remove_filters(link).map(drop))?;
        self.home.as_deref().map_or(Ok(()), Home::collect)
    }
}

/// The link that an earlier agent pinned there, if it still hangs on an interface.
fn pinned(path: &Path, kind: (&str, &str), index: u32, program: &str) -> Result<Option<FdLink>> {
    match pins::check_link(path, kind, index, program)? {
        None => Ok(None),
        Some(true) => Ok(Some(PinnedLink::from_pin(path)?.into())),
        Some(false) => remove_pin(path).map(|()| None),
    }
}

/// Forgets a link whose interface has just gone; any other error stays one.
fn severed(error: ProgramError, path: &Path) -> Result<()> {
    let error = anyhow!(error);
    if super::errno(&error) == Some(libc::ENOLINK) { remove_pin(path) } else { Err(error) }
}

/// Takes our filters off an interface; the directions where there were any.
pub fn remove_filters(link: &Link) -> Result<Vec<Direction>> {
    let there: Vec<_> = Direction::ALL.iter().copied().filter(|d| is_there(link, *d)).collect();
    there.iter().try_for_each(|direction| remove_filter(link, *direction))?;
    Ok(there)
}

fn remove_filter(link: &Link, direction: Direction) -> Result<()> {
    let side = match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    };
    drop(SchedClassifierLink::attached(&link.name, side, PRIORITY, HANDLE, None)?);
    Ok(())
}

/// A filter on the clsact qdisc, in place of the one that a killed agent left there.
fn clsact(
    program: &mut SchedClassifier,
    link: &Link,
    side: TcAttachType,
) -> Result<tc::SchedClassifierLinkId> {
    // Fails where the qdisc is there already, which is as good; anything else fails again below.
    let _ = tc::qdisc_add_clsact(&link.name);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    match program.attach_with_options(&link.name, side, TcAttachOptions::Netlink(options)) {
        Ok(id) => Ok(id),
        Err(e) => {
            let e = anyhow!(e);
            if super::errno(&e) != Some(libc::EEXIST) {
                return Err(e);
            }
            let old = SchedClassifierLink::attached(&link.name, side, PRIORITY, HANDLE, None)?;
            Ok(program.attach_to_link(old)?)
        }
    }
}

/// Whether our filter hangs on the clsact qdisc of an interface; an unclear answer counts as yes.
fn has_filter(link: &Link, direction: Direction) -> bool {
    find_filter(link, direction).unwrap_or(true)
}

/// The same; an unclear answer counts as no.
fn is_there(link: &Link, direction: Direction) -> bool {
    find_filter(link, direction).unwrap_or(false)
}

fn find_filter(link: &Link, direction: Direction) -> Result<bool> {
    const PARENT: u32 = 0xffff_0000;
    let side: u32 = match direction {
        Direction::Ingress => 0xfff2,
        Direction::Egress => 0xfff3,
    };
    // struct tcmsg: family, interface, handle, parent, info.
    let words = [0, link.index, 0, PARENT | side, 0];
    let request: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut found = false;
    netlink::dump(libc::RTM_GETTFILTER, &request, |body| {
        let word =
            |at: usize| body.get(at..at + 4).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
        found |=
            word(8) == Some(HANDLE.into()) && word(16).is_some_and(|info| info >> 16 == u32::from(PRIORITY));
    })?;
    Ok(found)
}

fn explain_xdp(error: anyhow::Error, link: &Link) -> anyhow::Error {
    let name = &link.name;
    let why = match super::errno(&error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            let now = link::links().unwrap_or_default();
            let holder = now.iter().find(|l| l.index == link.index).and_then(|l| l.xdp_program);
            let holder = holder.map_or("another program".to_owned(), describe_program);
            format!("the XDP hook of {name} is held by {holder}, which is never replaced")
        }
        Some(libc::EOPNOTSUPP) => {
            let driver =
                link.kind.clone().or_else(|| link::driver(name)).unwrap_or_else(|| "its driver".to_owned());
            format!("{driver} has no native XDP")
        }
        Some(libc::ERANGE) => format!("MTU {} is too large for XDP on this driver", link.mtu),
        Some(libc::EPERM) => "attaching needs CAP_NET_ADMIN and CAP_BPF".to_owned(),
        _ => "the driver refuses XDP; the kernel log may say more".to_owned(),
    };
    error.context(why)
}

fn explain_tc(error: anyhow::Error, link: &Link) -> anyhow::Error {
    let why = match super::errno(&error) {
        Some(libc::EPERM) => "give the agent CAP_NET_ADMIN and CAP_BPF",
        Some(libc::ENODEV) => "the interface has just gone",
        Some(libc::EOPNOTSUPP | libc::ENOENT) => {
            "the kernel has neither tcx nor clsact: run Linux 6.6 or newer, or load sch_ingress and cls_bpf"
        }
        _ => "`fivetuple check` says what this interface allows",
    };
    error.context(format!("cannot attach to {} at tc; {why}", link.name))
}
