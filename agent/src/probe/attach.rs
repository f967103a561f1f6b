//! How a program gets onto an interface, and what to say when it does not.

use super::{Mount, Probe};
use crate::{
    aggregate::snapshot::Mode,
    config::{Ingress, Interface},
    link::{self, Link},
    netlink,
    preflight::{Hook, describe_program, plan},
    why,
};
use agent_ebpf::{
    label::Direction,
    layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS},
};
use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    xdp::XdpLink,
};
use tracing::{info, warn};

/// Priority and handle of our filters where tc has no links: none that others use, so that what an agent left behind
/// when it was killed is known as ours and is replaced, not doubled.
const PRIORITY: u16 = 5;
const HANDLE: TcHandle = TcHandle::new(0, 0x5f1e);

/// Keeps a program on its interface.
#[expect(dead_code, reason = "held only to be dropped, which detaches")]
pub enum Hold {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
}

impl Probe {
    /// Watch an interface as the point of this number, both directions.
    pub fn attach(&mut self, point: usize, entry: &Interface, link: &Link) -> Result<()> {
        let planned = plan(entry.ingress, link);
        let mut reason = planned.reason;
        let mut ingress = None;
        if planned.hook == Hook::Xdp {
            match self.xdp(link) {
                Ok(link) => ingress = Some((Mode::Xdp, Hold::Xdp(link))),
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
        let (in_mode, hold) = match ingress {
            Some(done) => {
                if has_filter(link, Direction::Ingress) {
                    // Left by an agent that was killed, and that watched by tc: it would only cost time.
                    drop(SchedClassifierLink::attached(
                        &link.name,
                        TcAttachType::Ingress,
                        PRIORITY,
                        HANDLE,
                        None,
                    )?);
                }
                done
            }
            None => self.tc(TC_INGRESS, link, TcAttachType::Ingress)?,
        };
        self.mounts.push(Mount { point, direction: Direction::Ingress, mode: in_mode, _hold: hold });
        let (out_mode, hold) =
            self.tc(TC_EGRESS, link, TcAttachType::Egress).inspect_err(|_| self.detach(point))?;
        self.mounts.push(Mount { point, direction: Direction::Egress, mode: out_mode, _hold: hold });
        info!(
            point = entry.point,
            interface = entry.name,
            ingress = in_mode.name(),
            reason,
            egress = out_mode.name(),
            "watching"
        );
        Ok(())
    }

    /// Put back what others took off a point: a filter goes when someone deletes the qdisc it hangs on.
    pub fn restore(&mut self, point: usize, link: &Link) -> Result<()> {
        let lost = |mount: &Mount| {
            mount.point == point && mount.mode == Mode::Clsact && !has_filter(link, mount.direction)
        };
        let directions: Vec<_> = self.mounts.iter().filter(|m| lost(m)).map(|m| m.direction).collect();
        for direction in directions {
            warn!(
                interface = link.name,
                hook = direction.name(),
                "someone took our program off; putting it back"
            );
            self.mounts.retain(|m| m.point != point || m.direction != direction);
            let (name, side) = match direction {
                Direction::Ingress => (TC_INGRESS, TcAttachType::Ingress),
                Direction::Egress => (TC_EGRESS, TcAttachType::Egress),
            };
            let (mode, hold) = self.tc(name, link, side)?;
            self.mounts.push(Mount { point, direction, mode, _hold: hold });
        }
        Ok(())
    }

    fn xdp(&mut self, link: &Link) -> Result<XdpLink> {
        if let Some(why) = &self.no_xdp {
            return Err(anyhow!("{why}"));
        }
        let program: &mut Xdp = self.ebpf.program_mut(XDP_INGRESS).context("no XDP program")?.try_into()?;
        let id = program
            .attach_to_if_index(link.index, XdpMode::Driver)
            .map_err(|e| explain_xdp(anyhow!(e), link))?;
        Ok(program.take_link(id)?)
    }

    fn tc(&mut self, name: &str, link: &Link, side: TcAttachType) -> Result<(Mode, Hold)> {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name).context("no tc program")?.try_into()?;
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
        Ok((mode, Hold::Tc(program.take_link(id)?)))
    }
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
    const PARENT: u32 = 0xffff_0000;
    let side: u32 = match direction {
        Direction::Ingress => 0xfff2,
        Direction::Egress => 0xfff3,
    };
    // struct tcmsg: family, interface, handle, parent, info.
    let words = [0, link.index, 0, PARENT | side, 0];
    let request: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut found = false;
    let asked = netlink::dump(libc::RTM_GETTFILTER, &request, |body| {
        let word =
            |at: usize| body.get(at..at + 4).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
        found |=
            word(8) == Some(HANDLE.into()) && word(16).is_some_and(|info| info >> 16 == u32::from(PRIORITY));
    });
    found || asked.is_err()
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
