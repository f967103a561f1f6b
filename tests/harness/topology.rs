//! The two worlds tests run in: client – gateway – server over two veth pairs, and two hosts on one wire.
//!
//! Everything is static (addresses, routes, neighbours, hardware addresses): a world is ready as soon as it is built, and
//! no TCP and no ARP is on its wires that no test asked for. A kernel that gets an IPv6 address does tell multicast
//! listeners so (MLD reports, ICMPv6): they are not TCP, and they come when they like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::impair::{Impair, Rule};
use crate::netns::NetNs;

/// One end of a wire: where it is plugged in and who it is.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The interface's name in its namespace.
    pub interface: &'static str,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its IPv4 address; the prefix has 24 bits.
    pub v4: Ipv4Addr,
    /// Its IPv6 address; the prefix has 64 bits.
    pub v6: Ipv6Addr,
}

impl Port {
    const fn new(interface: &'static str, network: u8, host: u8) -> Self {
        Self {
            interface,
            mac: [2, 0, 0, 0, network, host],
            v4: Ipv4Addr::new(10, 77, network, host),
            v6: Ipv6Addr::new(0xfd77, 0, 0, network as u16, 0, 0, 0, host as u16),
        }
    }

    /// The address of one IP version, to write a test once for both.
    pub fn ip(&self, version: Version) -> IpAddr {
        match version {
            Version::V4 => self.v4.into(),
            Version::V6 => self.v6.into(),
        }
    }

    fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The `ip -batch` lines that configure this end, knowing the other end of its wire and the ways behind that.
    pub fn setup(&self, peer: &Port, behind_peer: &[&Port]) -> String {
        let Port { interface, v4, v6, .. } = self;
        let mut lines = format!(
            "link set {interface} addrgenmode none\n\
             link set {interface} up\n\
             addr add {v4}/24 dev {interface}\n\
             addr add {v6}/64 dev {interface} nodad\n\
             neigh replace {} lladdr {mac} nud permanent dev {interface}\n\
             neigh replace {} lladdr {mac} nud permanent dev {interface}\n",
            peer.v4,
            peer.v6,
            mac = peer.mac_text(),
        );
        for far in behind_peer {
            lines += &format!(
                "route add {}/32 via {} dev {interface}\nroute add {}/128 via {} dev {interface}\n",
                far.v4, peer.v4, far.v6, peer.v6
            );
        }
        lines
    }
}

/// Which IP a test speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The client's end of the outer wire.
pub const CLIENT: Port = Port::new("eth0", 1, 2);
/// The gateway's interface towards the client.
pub const OUTSIDE: Port = Port::new("outside", 1, 1);
/// The gateway's interface towards the server.
pub const INSIDE: Port = Port::new("inside", 2, 1);
/// The server's end of the inner wire.
pub const SERVER: Port = Port::new("eth0", 2, 2);
/// The left and the right host of a [`Pair`].
pub const LEFT: Port = Port::new("eth0", 3, 1);
/// The right host of a [`Pair`].
pub const RIGHT: Port = Port::new("eth0", 3, 2);

/// How a [`Gateway`] is built; `Gateway::new()` is the plain one.
#[derive(Default)]
pub struct Plan {
    client_side: Option<Rule>,
    server_side: Option<Rule>,
    offloads: bool,
    many_cpus: bool,
    patient: bool,
}

impl Plan {
    /// Puts an impairment box on the wire between client and gateway.
    pub fn client_side(mut self, rule: impl Into<Rule>) -> Self {
        self.client_side = Some(rule.into());
        self
    }

    /// Puts an impairment box on the wire between gateway and server.
    pub fn server_side(mut self, rule: impl Into<Rule>) -> Self {
        self.server_side = Some(rule.into());
        self
    }

    /// Leaves segmentation and checksum offloads on. They are off unless asked for: with them the wire carries
    /// super-packets, and a rule that drops one packet drops many segments.
    pub fn offloads(mut self, on: bool) -> Self {
        self.offloads = on;
        self
    }

    /// Lets each packet be handled by whichever processor sent it, as veths do by default: the hooks run on all of them,
    /// and the wires do not keep order. Otherwise every wire is in order.
    pub fn many_cpus(mut self) -> Self {
        self.many_cpus = true;
        self
    }

    /// Keeps both ends from sending again because something took long (no tail loss probes, no retransmission timeout
    /// below 3 s): on a busy machine only what was really lost is then sent again. Without it, a FIN that was sent again
    /// for no reason may even end the other side's TIME-WAIT (RFC 1337).
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Builds the three namespaces and the boxes between them.
    #[track_caller]
    pub fn build(self) -> Gateway {
        let (client, gateway, server) = (NetNs::new("client"), NetNs::new("gateway"), NetNs::new("server"));
        let steer = (!self.many_cpus).then(any_cpu);
        let client_box = join((&client, &CLIENT), (&gateway, &OUTSIDE), self.client_side, "clientbox", steer);
        let server_box = join((&gateway, &INSIDE), (&server, &SERVER), self.server_side, "serverbox", steer);
        gateway.sysctl("net/ipv4/ip_forward", 1);
        gateway.sysctl("net/ipv6/conf/all/forwarding", 1);
        client.ip(&CLIENT.setup(&OUTSIDE, &[&SERVER]));
        gateway.ip(&(OUTSIDE.setup(&CLIENT, &[]) + &INSIDE.setup(&SERVER, &[])));
        server.ip(&SERVER.setup(&INSIDE, &[&CLIENT]));
        let world = Gateway { client_box, server_box, client, gateway, server };
        world.offloads(self.offloads);
        if self.patient {
            be_patient(&world.client, &CLIENT, Some(&OUTSIDE), &SERVER);
            be_patient(&world.server, &SERVER, Some(&INSIDE), &CLIENT);
        }
        world
    }
}

/// client – \[box\] – gateway – \[box\] – server. The gateway forwards and owns no connection; its interfaces are
/// `outside` (to the client) and `inside` (to the server).
pub struct Gateway {
    /// The box between client and gateway, where the plan has one.
    pub client_box: Option<Impair>,
    /// The box between gateway and server, where the plan has one.
    pub server_box: Option<Impair>,
    /// The client's namespace.
    pub client: NetNs,
    /// The gateway's namespace: the agent under test runs here.
    pub gateway: NetNs,
    /// The server's namespace.
    pub server: NetNs,
}

impl Gateway {
    /// Without boxes and without offloads.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "building namespaces is no default value")]
    pub fn new() -> Self {
        Self::plan().build()
    }

    /// Starts a plan.
    pub fn plan() -> Plan {
        Plan::default()
    }

    /// Turns offloads on or off at every end of every wire. Also at the boxes' ends: were super-packets cut there, the next
    /// interface would put them together again (GRO), and a veth does not keep their order then.
    #[track_caller]
    pub fn offloads(&self, on: bool) {
        for middle in self.client_box.iter().chain(&self.server_box) {
            middle.namespace().offloads("client", on);
            middle.namespace().offloads("server", on);
        }
        self.client.offloads(CLIENT.interface, on);
        self.gateway.offloads(OUTSIDE.interface, on);
        self.gateway.offloads(INSIDE.interface, on);
        self.server.offloads(SERVER.interface, on);
    }

    /// The box on the client's side.
    ///
    /// # Panics
    /// When the plan had none.
    #[track_caller]
    pub fn client_box(&self) -> &Impair {
        self.client_box.as_ref().expect("the plan put a box on the client's side")
    }

    /// The box on the server's side.
    ///
    /// # Panics
    /// When the plan had none.
    #[track_caller]
    pub fn server_box(&self) -> &Impair {
        self.server_box.as_ref().expect("the plan put a box on the server's side")
    }
}

/// Two hosts on one wire, optionally with a box in it.
pub struct Pair {
    /// The box on the wire, where there is one.
    pub middle: Option<Impair>,
    /// The left host; for the box, the client.
    pub left: NetNs,
    /// The right host; for the box, the server.
    pub right: NetNs,
}

impl Pair {
    /// Two hosts, no offloads, no box.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "building namespaces is no default value")]
    pub fn new() -> Self {
        Self::build(None)
    }

    /// Two hosts, no offloads, and a box between them.
    #[track_caller]
    pub fn impaired(rule: impl Into<Rule>) -> Self {
        Self::build(Some(rule.into()))
    }

    #[track_caller]
    fn build(rule: Option<Rule>) -> Self {
        let (left, right) = (NetNs::new("left"), NetNs::new("right"));
        let middle = join((&left, &LEFT), (&right, &RIGHT), rule, "middle", Some(any_cpu()));
        left.ip(&LEFT.setup(&RIGHT, &[]));
        right.ip(&RIGHT.setup(&LEFT, &[]));
        left.offloads(LEFT.interface, false);
        right.offloads(RIGHT.interface, false);
        Self { middle, left, right }
    }

    /// Keeps both hosts from sending again because something took long; see [`Plan::patient`].
    #[track_caller]
    pub fn patient(self) -> Self {
        be_patient(&self.left, &LEFT, None, &RIGHT);
        be_patient(&self.right, &RIGHT, None, &LEFT);
        self
    }

    /// The box.
    ///
    /// # Panics
    /// When the pair was built without one.
    #[track_caller]
    pub fn middle(&self) -> &Impair {
        self.middle.as_ref().expect("the pair was built with a box")
    }
}

/// Connects two ports by a veth pair, or by two with a box between them; all of it on one processor, if one is named.
#[track_caller]
fn join(
    left: (&NetNs, &Port),
    right: (&NetNs, &Port),
    rule: Option<Rule>,
    label: &str,
    steer: Option<u32>,
) -> Option<Impair> {
    let prepare = |namespace: &NetNs, interface: &str| {
        quiet(namespace, interface);
        if let Some(cpu) = steer {
            namespace.steer(interface, cpu);
        }
    };
    let Some(rule) = rule else {
        wire(left.0, left.1.interface, &left.1.mac_text(), right.0, right.1.interface, &right.1.mac_text());
        prepare(left.0, left.1.interface);
        prepare(right.0, right.1.interface);
        return None;
    };
    let middle = NetNs::new(label);
    let ends = [(left, "client", "02:00:00:00:99:01"), (right, "server", "02:00:00:00:99:02")];
    for ((host, port), inner, mac) in ends {
        wire(host, port.interface, &port.mac_text(), &middle, inner, mac);
        prepare(host, port.interface);
        prepare(&middle, inner);
        middle.ip(&format!("link set {inner} addrgenmode none\nlink set {inner} arp off promisc on up\n"));
        middle.offloads(inner, false);
    }
    Some(Impair::start(middle, "client", "server", rule))
}

/// One of the processors, so that worlds that run side by side do not all use the same.
pub(crate) fn any_cpu() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, |count| count.get().min(32));
    fastrand::u32(0..u32::try_from(count).expect("at most 32"))
}

/// Keeps a host from sending again because something took long; see [`Plan::patient`].
#[track_caller]
pub fn be_patient(host: &NetNs, own: &Port, via: Option<&Port>, far: &Port) {
    host.sysctl("net/ipv4/tcp_early_retrans", 0);
    let (via_v4, via_v6) =
        via.map(|via| (format!("via {}", via.v4), format!("via {}", via.v6))).unwrap_or_default();
    let interface = own.interface;
    host.ip(&format!(
        "route replace {}/32 {via_v4} dev {interface} rto_min 3s\n\
         route replace {}/128 {via_v6} dev {interface} rto_min 3s\n",
        far.v4, far.v6,
    ));
}

#[track_caller]
pub(crate) fn wire(a: &NetNs, a_name: &str, a_mac: &str, b: &NetNs, b_name: &str, b_mac: &str) {
    a.ip(&format!(
        "link add {a_name} address {a_mac} type veth peer name {b_name} address {b_mac} netns {}\n",
        b.name()
    ));
}

/// Keeps an interface from saying anything of its own accord, and from refusing what comes the other way round.
#[track_caller]
pub(crate) fn quiet(namespace: &NetNs, interface: &str) {
    namespace.sysctl(&format!("net/ipv6/conf/{interface}/accept_ra"), 0);
    namespace.sysctl(&format!("net/ipv6/conf/{interface}/router_solicitations"), 0);
    namespace.sysctl("net/ipv4/conf/all/rp_filter", 0);
    namespace.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), 0);
}
