//! Programs of others on the interfaces that are watched, at every hook: each sees what it would see without us, and is
//! there afterwards.

use aya::programs::tc::TcAttachType::{Egress, Ingress};
use harness::agent::{Agent, Launch, Without, left_attached};
use harness::impair::flags::SYN;
use harness::raw::{Frame, RawPort};
use harness::topology::{CLIENT, OUTSIDE, SERVER};
use harness::truth::Nft;
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use crate::foreign::{Among, Counting};
use crate::watch::{DEADLINE, configuration, eventually_exactly};

/// SYNs that pass the gateway at a time.
const SYNS: u16 = 500;

/// A gateway whose interfaces only what a test sends passes.
fn quiet() -> Gateway {
    let world = Gateway::new();
    // Or kernels tell of their multicast groups whenever they like.
    for (end, interface) in [(&world.client, "eth0"), (&world.gateway, "outside"), (&world.gateway, "inside")]
    {
        end.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), 1);
    }
    world
}

/// A server that answers nothing, and counts what came.
#[track_caller]
fn deaf(world: &Gateway) -> Nft<'_> {
    let body = "counter arrived {\n}\nchain input {\n type filter hook input priority 0;\n \
                tcp dport 9 counter name arrived drop\n}";
    Nft::load(&world.server, "deaf", body)
}

/// Has SYNs pass from `outside` to `inside`, each of a client's port of its own.
#[track_caller]
fn pass(world: &Gateway, deaf: &Nft) {
    let port = RawPort::open(&world.client, CLIENT.interface);
    let before = deaf.counter("arrived").0;
    for n in 0..SYNS {
        let from = (CLIENT.v4, 10_000 + n);
        let syn = Frame::new(from, (SERVER.v4, 9)).macs(CLIENT.mac, OUTSIDE.mac).flags(SYN).seq(n.into());
        port.send(&syn.build());
    }
    eventually(DEADLINE, "every SYN to arrive", || deaf.counter("arrived").0 == before + u64::from(SYNS));
}

/// It has counted each; then it ends. What is attached after it.
#[track_caller]
fn counted_and_ended(agent: Agent, world: &Gateway) -> Vec<String> {
    let client: &[(&str, &str)] = &[("from", "client")];
    eventually_exactly(&agent, "segments_total", &[], &[(client, SYNS.into())]);
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert!(status.success(), "{log:?}");
    left_attached(&world.gateway)
}

/// XDP by netlink, a filter of tc, and tcx before and behind ours: what each counted, with us and without.
#[test]
fn strangers_count_the_same_with_us_and_without() {
    let (world, bpffs) = (quiet(), Bpffs::new());
    let deaf = deaf(&world);
    let by_xdp = Counting::load(true);
    let by_filter = Counting::load(false);
    for (program, name) in [(&by_xdp, "xdp"), (&by_filter, "filter")] {
        program.pin(&bpffs.path().join(name));
    }
    let pins = bpffs.path().display();
    world.gateway.exec(&format!("ip link set dev outside xdpdrv pinned {pins}/xdp"));
    world.gateway.exec("tc qdisc add dev inside clsact");
    world.gateway.exec(&format!("tc filter add dev inside egress pref 1 bpf da object-pinned {pins}/filter"));

    let launch = || Launch::configuration(configuration("")).alone();
    let agent = launch().start(&world.gateway);
    let places = [
        ("outside", Among::First(Ingress)),
        ("outside", Among::Last(Ingress)),
        ("inside", Among::First(Egress)),
        ("inside", Among::Last(Egress)),
    ];
    let by_tcx = places.map(|_| Counting::load(false));
    let hung = places.iter().zip(&by_tcx).map(|(at, program)| program.among(&world.gateway, at.0, at.1));
    let _links: Vec<_> = hung.collect();
    let count = |times: u16| {
        let all = [&by_xdp, &by_filter].into_iter().chain(&by_tcx).map(Counting::packets);
        assert_eq!(all.collect::<Vec<_>>(), [u64::from(times * SYNS); 6]);
    };
    pass(&world, &deaf);
    count(1);
    let strangers = counted_and_ended(agent, &world);
    assert_eq!(strangers.iter().filter(|line| !line.contains("qdisc")).count(), 6, "{strangers:?}");
    pass(&world, &deaf);
    count(2);

    let agent = launch().without(Without::Tcx).start(&world.gateway);
    pass(&world, &deaf);
    count(3);
    let mut left = counted_and_ended(agent, &world);
    // A stranger may have begun to use it meanwhile.
    left.retain(|line| line != "outside: qdisc clsact");
    assert_eq!(left, strangers);
    pass(&world, &deaf);
    count(4);
}
