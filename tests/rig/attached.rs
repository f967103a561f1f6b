//! The search for what is left attached finds everything that can be: a check that cannot fail would prove nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use harness::agent::left_attached;
use harness::impair::{Action, Packet};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;
use harness::{Gateway, NetNs, Pair, command};

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;

/// `bpf(2)` with the first words of its attributes; the kernel takes the rest as zero.
fn bpf(command: libc::c_long, attributes: &[u32]) -> io::Result<File> {
    // SAFETY: the kernel reads at most the given length; pointers among the words point to statics.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(i32::try_from(result).expect("a descriptor is an int")) })
}

/// The smallest program there is: `r0 = VERDICT; exit`, with a verdict that lets the packet pass.
fn load(kind: u32) -> File {
    static PASS: [[u64; 2]; 2] = [[0x0000_0002_0000_00b7, 0x95], [0xffff_ffff_0000_00b7, 0x95]];
    static LICENCE: &[u8] = b"GPL\0";
    let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
    let instructions = halves(PASS[usize::from(kind == SCHED_CLS)].as_ptr() as u64);
    let licence = halves(LICENCE.as_ptr() as u64);
    bpf(PROG_LOAD, &[kind, 2, instructions[0], instructions[1], licence[0], licence[1]])
        .unwrap_or_else(|error| panic!("cannot load a program of kind {kind}: {error}"))
}

fn attach(namespace: &NetNs, interface: &str, kind: u32, place: u32) -> File {
    let program = load(kind);
    namespace.run(|| {
        let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
        let program = program.as_raw_fd().cast_unsigned();
        // tcx reads 16 bytes more than XDP; zero means: no relative program, any revision.
        bpf(LINK_CREATE, &[program, index, place, 0, 0, 0, 0, 0])
            .unwrap_or_else(|error| panic!("cannot attach to {interface}: {error}"))
    })
}

/// The gateway of the agent's tests has a program on each wire, and the wires must still lose nothing.
#[test]
fn wires_with_xdp_programs_lose_nothing() {
    let world = Gateway::plan().client_side(|_: &Packet| vec![Action::Pass]).patient().build();
    let _links = ["outside", "inside"].map(|interface| attach(&world.gateway, interface, XDP, ATTACH_XDP));
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 5_000_000);
    let again = [&world.client, &world.server].map(|end| Counters::of(end).get("TcpRetransSegs"));
    assert_eq!(again, [0, 0]);
}

#[test]
fn every_kind_of_attachment_is_found_while_it_lasts() {
    let pair = Pair::new();
    let nothing = Vec::<String>::new();
    assert_eq!(left_attached(&pair.left), nothing);
    let kinds = [
        (XDP, ATTACH_XDP, "eth0: xdp"),
        (SCHED_CLS, ATTACH_TCX_INGRESS, "eth0: tcx ingress"),
        (SCHED_CLS, ATTACH_TCX_EGRESS, "eth0: tcx egress"),
    ];
    for (kind, place, name) in kinds {
        let link = attach(&pair.left, "eth0", kind, place);
        let found = left_attached(&pair.left);
        assert!(found.len() == 1 && found[0].starts_with(name), "{name}: {found:?}");
        assert_eq!(left_attached(&pair.right), nothing);
        drop(link);
        assert_eq!(left_attached(&pair.left), nothing, "it goes with its link");
    }
    pair.left.exec("tc qdisc add dev eth0 clsact");
    let mut filter = pair.left.cmd("tc");
    filter.args(["filter", "add", "dev", "eth0", "egress", "bpf", "bytecode", "1,6 0 0 4294967295,"]);
    command::run(filter, "");
    let found = left_attached(&pair.left);
    assert!(found.len() == 2 && found[0] == "eth0: qdisc clsact", "{found:?}");
    assert!(found[1].starts_with("eth0: tc egress"), "{found:?}");
}
