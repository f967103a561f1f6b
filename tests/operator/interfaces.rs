//! Interfaces live their own life: they go and come back, are renamed, move away, change; and others take our programs
//! off them. The agent follows, and what is not ours stays as it is.

use std::io::ErrorKind;
use std::time::Duration;

use harness::agent::{Agent, Launch, Without, left_attached, run_to_end};
use harness::topology::{LEFT, RIGHT};
use harness::{Gateway, NetNs, Pair, eventually, tcp::Dial};
use nix::sys::signal::Signal;

use crate::foreign::{Hook, attach, take_off};
use crate::watch::{DEADLINE, configuration};

/// What the kernel tells of is followed this soon: sooner than the agent looks by itself.
pub const AT_ONCE: Duration = Duration::from_secs(2);
/// What nobody tells of is noticed this soon.
pub const SOON: Duration = Duration::from_secs(5);

/// Waits until so many directions of a point are watched.
#[track_caller]
pub fn watched(agent: &Agent, point: &str, directions: f64, within: Duration) {
    eventually(within, &format!("{point} to be watched in {directions} directions"), || {
        let there = agent.metrics().sum("fivetuple_attached", &[("point", point)]);
        if there == directions { Ok(()) } else { Err(format!("it is in {there}: {:?}", agent.log())) }
    });
}

/// Tries a port that nobody listens at: one SYN and one RST pass.
#[track_caller]
fn be_refused(from: &NetNs) {
    let tried = Dial::default().from((RIGHT.v4, 0)).try_connect(from, (LEFT.v4, 81));
    assert_eq!(tried.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_interface_that_comes_back_is_watched_at_once() {
    let pair = Pair::new();
    let agent = Launch::interfaces(&["eth0"]).start(&pair.left);
    let refused = |count| {
        eventually(DEADLINE, "the refusals to be counted", || {
            let there = agent.metrics().sum("fivetuple_tcp_resets_total", &[("cause", "refused")]);
            if there == count { Ok(()) } else { Err(there) }
        });
    };
    be_refused(&pair.right);
    refused(1.0);
    for round in 0..3 {
        pair.left.ip("link del eth0");
        watched(&agent, "eth0", 0.0, AT_ONCE);
        pair.left.ip(&format!("link add eth0 type veth peer name eth0 netns {}", pair.right.name()));
        watched(&agent, "eth0", 2.0, AT_ONCE);
        for (end, port) in [(&pair.left, &LEFT), (&pair.right, &RIGHT)] {
            end.ip(&format!("addr add {}/24 dev eth0\nlink set eth0 up\n", port.v4));
        }
        be_refused(&pair.right);
        refused(f64::from(2 + round));
    }
    agent.stop();
}

#[test]
fn a_name_is_followed_to_whichever_interface_bears_it() {
    let pair = Pair::new();
    pair.left.ip("link add v0 type veth peer name v1");
    let agent = Launch::interfaces(&["eth0", "v0"]).start(&pair.left);
    let rename =
        |from: &str, to: &str| pair.left.ip(&format!("link set {from} down\nlink set {from} name {to}\n"));

    rename("v0", "other");
    watched(&agent, "v0", 0.0, AT_ONCE);
    let on_eth0 = left_attached(&pair.left);
    assert!(on_eth0.len() == 2 && on_eth0.iter().all(|line| line.starts_with("eth0: ")), "{on_eth0:?}");
    assert!(
        agent.log().iter().any(|l| l.contains("was renamed") && l.contains("renamed=other")),
        "{:?}",
        agent.log()
    );
    rename("other", "v0");
    watched(&agent, "v0", 2.0, AT_ONCE);

    // Two that change names are two points that change interfaces.
    let before = left_attached(&pair.left);
    rename("eth0", "aside");
    rename("v0", "eth0");
    rename("aside", "v0");
    eventually(AT_ONCE, "both to be watched anew", || {
        let (now, log) = (left_attached(&pair.left), agent.log());
        let of = |point| agent.metrics().sum("fivetuple_attached", &[("point", point)]);
        let followed = log.iter().any(|line| line.contains("renamed=eth0"));
        // In between, programs are taken off the one interface and put on the other.
        if followed && now.len() == before.len() && [of("eth0"), of("v0")] == [2.0; 2] {
            Ok(())
        } else {
            Err(format!("{now:?}\n{log:?}"))
        }
    });
    agent.stop();
}

#[test]
fn an_interface_that_moves_away_takes_no_program_along() {
    let (pair, elsewhere) = (Pair::new(), NetNs::new("elsewhere"));
    pair.left.ip("link add v0 type veth peer name v1");
    let text = "interfaces:\n  - name: eth0\n  - name: v0\n    ingress: xdp\n";
    let agent = Launch::configuration(text).start(&pair.left);
    assert_eq!(left_attached(&pair.left).len(), 4);
    pair.left.ip(&format!("link set v0 netns {}", elsewhere.name()));
    watched(&agent, "v0", 0.0, AT_ONCE);
    assert_eq!(left_attached(&elsewhere), Vec::<String>::new());
    elsewhere.exec(&format!("ip link set v0 netns {}", pair.left.name()));
    watched(&agent, "v0", 2.0, AT_ONCE);
    agent.stop();
}

/// Down and up, another MTU, a bridge above it: all of that is the interface's own business.
#[test]
fn programs_stay_where_they_are_while_an_interface_changes() {
    let pair = Pair::new();
    let text = "interfaces:\n  - name: eth0\n    ingress: xdp\n";
    let agent = Launch::configuration(text).start(&pair.left);
    let attached = left_attached(&pair.left);
    let both = |line: &str| [&pair.left, &pair.right].map(|end| end.ip(line));
    both("link set eth0 mtu 9000");
    pair.left.ip("link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n");
    pair.left.ip("link set eth0 nomaster\nlink set eth0 down\nlink set eth0 up\n");
    both("link set eth0 mtu 1500");
    be_refused(&pair.right);
    assert_eq!(left_attached(&pair.left), attached, "the same programs");
    watched(&agent, "eth0", 2.0, AT_ONCE);
    agent.stop();
}

#[test]
fn what_others_take_off_is_put_back() {
    let world = Gateway::new();
    let text = configuration("").replacen("name: outside\n", "name: outside\n    ingress: xdp\n", 1);
    let agent = Launch::configuration(text).start(&world.gateway);
    let attached = left_attached(&world.gateway);
    assert_eq!(attached.len(), 4, "{attached:?}");
    for interface in ["outside", "inside"] {
        assert_eq!(take_off(&world.gateway, interface), 2);
    }
    assert_eq!(left_attached(&world.gateway), Vec::<String>::new());
    eventually(SOON, "our programs to be put back", || {
        let now = left_attached(&world.gateway);
        if now == attached { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let said = agent.log().iter().filter(|line| line.contains("someone took our program off")).count();
    assert_eq!(said, 4, "{:?}", agent.log());

    // While nobody looks a stranger takes the hook: it is his until he goes.
    agent.signal(Signal::SIGSTOP);
    take_off(&world.gateway, "outside");
    let stranger = attach(&world.gateway, "outside", Hook::Dispatcher);
    agent.signal(Signal::SIGCONT);
    watched(&agent, "outside", 0.0, SOON);
    eventually(SOON, "the holder to be named", || {
        agent.log().iter().any(|l| l.contains("cannot watch") && l.contains("held by program "))
    });
    let checked = run_to_end(&world.gateway, &["check", "--interface=outside"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("held by program ") && said.contains("(xdp_dispatcher)"), "{said}");
    assert!(left_attached(&world.gateway).iter().any(|l| l.contains("xdp_dispatcher")));
    let complaints = || agent.log().iter().filter(|l| l.contains("cannot watch")).count();
    assert_eq!(complaints(), 1, "once, not with each try: {:?}", agent.log());
    drop(stranger);
    watched(&agent, "outside", 2.0, SOON);
    agent.stop();
}

/// Before Linux 6.6 our filters go with their qdisc, which is not ours alone.
#[test]
fn filters_are_put_back_when_their_qdisc_is_deleted() {
    let world = Gateway::new();
    let agent = Launch::configuration(configuration("")).without(Without::Tcx).start(&world.gateway);
    let attached = left_attached(&world.gateway);
    world.gateway.exec("tc qdisc del dev outside clsact");
    eventually(AT_ONCE, "our filters to be put back", || {
        let now = left_attached(&world.gateway);
        let noticed = agent.log().iter().filter(|line| line.contains("someone took our program off")).count();
        if noticed != 2 {
            return Err(format!("{noticed} are missed"));
        }
        if now.len() == attached.len() { Ok(()) } else { Err(format!("{now:?}")) }
    });
    watched(&agent, "outside", 2.0, AT_ONCE);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait().0.code(), Some(0));
}

/// What an agent watches, what it says of the rest in its log and where it is asked whether it is ready, and the metric of
/// br0 beside eth0.
#[track_caller]
fn points_of(pair: &Pair, launch: Launch) -> (Vec<String>, Vec<String>, String, Option<f64>) {
    let agent = launch.start(&pair.left);
    let metrics = agent.metrics();
    let attached = metrics.matching("fivetuple_attached", &[("hook", "ingress"), ("mode", "tcx")]);
    let points = attached.filter_map(|(labels, _)| labels.get("point").cloned()).collect();
    let said = agent.log().into_iter().filter(|l| l.contains("watched") && !l.contains("serving")).collect();
    let ready = agent.get("/-/ready?verbose");
    let labels = [("interface", "br0"), ("at", "eth0")];
    let twice = metrics.matching("fivetuple_watched_twice", &labels).map(|(_, value)| value).next();
    agent.stop();
    (points, said, ready, twice)
}

/// The kernel of the tests has bridges; of bonds and VLANs the choice itself has tests.
#[test]
fn no_packet_is_watched_twice_unless_it_is_asked_for() {
    let pair = Pair::new();
    pair.left.ip("link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n");
    pair.left.ip("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up\n");
    let (points, said, ready, twice) = points_of(&pair, Launch::default());
    assert_eq!((points, twice), (vec!["eth0".into(), "v0".into(), "v1".into()], Some(0.0)));
    let why = "br0 is not watched: all that passes it is seen at eth0";
    assert!(said.len() == 1 && said[0].contains(why) && said[0].contains("level=info"), "{said:?}");
    assert!(ready.contains(why), "{ready}");

    let (points, said, ready, twice) = points_of(&pair, Launch::interfaces(&["br0", "eth0"]));
    assert_eq!((points, twice), (vec!["br0".into(), "eth0".into()], Some(1.0)));
    let why = "br0 and eth0 are both watched and see the same packets";
    assert!(said.len() == 1 && said[0].contains(why) && said[0].contains("level=warn"), "{said:?}");
    assert!(ready.contains(why), "{ready}");

    let text = "interfaces:\n  - name: v0\n    point: outside\n  - name: \"*\"\n  - name: \"!v*\"\n";
    let (points, said, _, _) = points_of(&pair, Launch::configuration(text));
    assert_eq!(points, ["eth0", "outside"]);
    assert_eq!(said.len(), 1, "{said:?}");
}
