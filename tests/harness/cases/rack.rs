//! The namespace that all wires of a world pass: a bridge for each network, and a port for each end.

use super::Point;
use crate::netns::NetNs;
use crate::topology::{any_cpu, quiet, wire};

/// The networks of a world. It forwards frames between the ports of one network, in order, and sends none of its own.
pub(super) struct Rack {
    namespace: NetNs,
    cpu: u32,
}

impl Rack {
    #[track_caller]
    pub fn new(networks: &[&str]) -> Self {
        let namespace = silent("rack");
        // The bridges are wires: no packet filter of the host has a say in them.
        namespace.sysctl("net/bridge/bridge-nf-call-iptables", 0);
        let lines = networks.iter().map(|network| {
            format!(
                "link add br-{network} type bridge forward_delay 0 mcast_snooping 0\nlink set br-{network} up\n"
            )
        });
        namespace.ip(&lines.collect::<String>());
        Self { namespace, cpu: any_cpu() }
    }

    /// Connects an interface of a host to a network by the rack's port of that name. Both ends are up, without
    /// offloads.
    #[track_caller]
    pub fn plug(&self, network: &str, port: &str, host: &NetNs, interface: &str, mac: &str) {
        // The lowest address becomes the bridge's own, and nobody knows those.
        let own = mac.replacen("02:", "06:", 1);
        wire(host, interface, mac, &self.namespace, port, &own);
        for (namespace, end) in [(host, interface), (&self.namespace, port)] {
            quiet(namespace, end);
            namespace.steer(end, self.cpu);
            namespace.ip(&format!("link set {end} addrgenmode none\nlink set {end} up\n"));
            namespace.offloads(end, false);
        }
        self.namespace.ip(&format!("link set {port} master br-{network}\n"));
    }

    /// Where its ports are.
    pub fn namespace(&self) -> &NetNs {
        &self.namespace
    }

    /// A port as a point.
    pub fn point(&self, name: &'static str, interface: &'static str) -> Point<'_> {
        Point { name, namespace: &self.namespace, interface }
    }
}

/// A namespace that speaks IPv4 only, so that nobody on its wires talks of neighbours and listeners.
#[track_caller]
pub(super) fn silent(label: &str) -> NetNs {
    let namespace = NetNs::new(label);
    for which in ["all", "default"] {
        namespace.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), 1);
    }
    namespace
}
