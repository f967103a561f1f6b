//! What an interface allows, and which hook its packets are best seen at.

use super::Finding;
use crate::{
    config::{Ingress, Interface, nearest::nearest},
    link::{self, Link},
    sys::program,
};

/// Drivers known to run XDP natively; for any other the agent tries, and takes tc where the driver refuses.
const NATIVE_XDP: &str = "atlantic bnxt_en cpsw dpaa2_eth ena fec fsl_dpa fsl_enetc gve hv_netvsc i40e ice igb igc \
    ixgbe ixgbevf lan966x mana mlx4_en mlx5_core mvneta mvpp2 netsec nfp nicvf qede sfc st_gmac stmmac tsnep \
    virtio_net vmxnet3 veth tun bond";

/// Where a packet that comes in is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the kernel makes a packet of it.
    Xdp,
    /// At tc ingress, after GRO.
    Tc,
}

/// The hook to try first, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The hook.
    pub hook: Hook,
    /// Why this one.
    pub reason: String,
}

/// Which hook an interface should have: what the operator said, or by what the interface is.
pub fn plan(ingress: Ingress, link: &Link) -> Plan {
    let (hook, reason) = match ingress {
        Ingress::Xdp => (Hook::Xdp, "the configuration says xdp".to_owned()),
        Ingress::Tc => (Hook::Tc, "the configuration says tc".to_owned()),
        Ingress::Auto => {
            if let Some(id) = link.xdp_program {
                (Hook::Tc, format!("the XDP hook is held by {}", describe_program(id)))
            } else if let Some(kind) = &link.kind {
                (Hook::Tc, format!("on a virtual device ({kind}) XDP costs more than it gives"))
            } else if link.loopback {
                (Hook::Tc, "loopback has no native XDP".to_owned())
            } else {
                (Hook::Xdp, "hardware".to_owned())
            }
        }
    };
    Plan { hook, reason }
}

/// A program by its id and, where this user may know it, its name.
pub fn describe_program(id: u32) -> String {
    match program::program_name(id) {
        Ok(name) if !name.is_empty() => format!("program {id} ({name})"),
        _ => format!("program {id} (`bpftool prog show id {id}` names it)"),
    }
}

/// What is known of one interface to watch.
pub fn findings(entry: &Interface, links: &[Link]) -> Vec<Finding> {
    let name = entry.name.as_str();
    let Some(link) = links.iter().find(|l| l.name == name) else {
        return vec![missing(name, links)];
    };
    let mut out = Vec::new();
    let loopback = || link.loopback.then(|| "loopback".to_owned());
    let driver = link.kind.clone().or_else(loopback).or_else(|| link::driver(name));
    let what = driver.unwrap_or_else(|| "unknown driver".to_owned());
    let plan = plan(entry.ingress, link);
    let about = format!("point {}, {what}, MTU {}", entry.point, link.mtu);
    if link.up {
        out.push(Finding::ok(name, about));
    } else {
        out.push(Finding::warn(
            name,
            format!("{about}, and it is down: nothing passes"),
            format!("ip link set {name} up"),
        ));
    }
    out.push(match (plan.hook, link.xdp_program) {
        (Hook::Xdp, Some(id)) => Finding::fail(
            name,
            format!(
                "ingress by XDP, but its hook is held by {}, which the agent never replaces",
                describe_program(id)
            ),
            format!("take that program off, or set ingress: tc for {name}"),
        ),
        (Hook::Xdp, None) if !NATIVE_XDP.split(' ').any(|known| known == what) => match entry.ingress {
            Ingress::Auto => Finding::ok(
                name,
                format!("ingress by XDP if the driver has it ({what} is not known to), else by tc"),
            ),
            _ => Finding::warn(
                name,
                format!("ingress by XDP, which {what} is not known to have"),
                format!("set ingress: auto for {name}, to fall back to tc where the driver refuses"),
            ),
        },
        (Hook::Xdp, None) if what == "veth" => Finding::warn(
            name,
            "ingress by XDP, for which a veth takes TCP segmentation offload from its other end: who sends there pays \
             for each segment"
                .to_owned(),
            format!("set ingress: tc for {name}"),
        ),
        (Hook::Xdp, None) => Finding::ok(name, format!("ingress by XDP: {}", plan.reason)),
        (Hook::Tc, _) => Finding::ok(name, format!("ingress by tc: {}", plan.reason)),
    });
    out
}

/// An interface that is not there, with the one that may be meant.
fn missing(name: &str, links: &[Link]) -> Finding {
    let others = || links.iter().map(|l| l.name.as_str());
    let hint = nearest(name, others()).map_or(String::new(), |near| format!("; did you mean {near}?"));
    Finding::fail(
        name,
        format!("there is no such interface{hint}"),
        format!("choose one of: {}", others().collect::<Vec<_>>().join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn link(name: &str) -> Link {
        Link { index: 2, name: name.to_owned(), up: true, mtu: 1500, ..Link::default() }
    }

    fn entry(name: &str, ingress: Ingress) -> Interface {
        Interface { name: name.to_owned(), point: "outside".to_owned(), ingress }
    }

    #[test]
    fn auto_means_xdp_on_hardware_and_tc_elsewhere() {
        let hardware = link("eth0");
        let veth = Link { kind: Some("veth".to_owned()), ..link("v0") };
        let held = Link { xdp_program: Some(u32::MAX), ..link("eth0") };
        let lo = Link { loopback: true, ..link("lo") };
        assert_eq!(plan(Ingress::Auto, &hardware).hook, Hook::Xdp);
        for other in [&veth, &held, &lo] {
            assert_eq!(plan(Ingress::Auto, other).hook, Hook::Tc);
        }
        assert!(plan(Ingress::Auto, &held).reason.contains("held by program 4294967295"));
        assert_eq!(plan(Ingress::Xdp, &veth).hook, Hook::Xdp);
        assert_eq!(plan(Ingress::Tc, &hardware).hook, Hook::Tc);
    }

    #[test]
    fn a_missing_interface_names_the_others() {
        let found = findings(&entry("eht0", Ingress::Auto), &[link("eth0"), link("lo")]);
        assert_eq!(found[0].state, State::Fail);
        assert!(found[0].text.contains("did you mean eth0?"));
        assert_eq!(found[0].remedy, "choose one of: eth0, lo");
    }

    #[test]
    fn a_held_hook_fails_only_where_xdp_is_forced() {
        let held = Link { xdp_program: Some(u32::MAX), ..link("eth0") };
        let worst = |ingress| {
            findings(&entry("eth0", ingress), std::slice::from_ref(&held)).iter().map(|f| f.state).max()
        };
        assert_eq!(worst(Ingress::Xdp), Some(State::Fail));
        assert_eq!(worst(Ingress::Auto), Some(State::Ok));
        assert_eq!(worst(Ingress::Tc), Some(State::Ok));
    }

    #[test]
    fn xdp_on_a_veth_is_warned_of() {
        let veth = Link { kind: Some("veth".to_owned()), ..link("v0") };
        let told = |ingress| findings(&entry("v0", ingress), std::slice::from_ref(&veth)).remove(1);
        let warned = told(Ingress::Xdp);
        assert_eq!((warned.state, warned.remedy.as_str()), (State::Warn, "set ingress: tc for v0"));
        assert!(warned.text.contains("segmentation offload"), "{}", warned.text);
        assert_eq!(told(Ingress::Auto).state, State::Ok);
    }

    #[test]
    fn a_link_that_is_down_is_a_warning() {
        let down = Link { up: false, kind: Some("veth".to_owned()), ..link("v0") };
        let found = findings(&entry("v0", Ingress::Auto), &[down]);
        assert_eq!((found[0].state, found[0].remedy.as_str()), (State::Warn, "ip link set v0 up"));
    }
}
