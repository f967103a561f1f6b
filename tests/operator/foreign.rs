//! Programs of a stranger on the gateway's interfaces: the smallest there are, which let every packet pass. And a stranger
//! who takes programs off.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};

use agent::link;
use agent::sys::pin::Facts;
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use harness::NetNs;

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;
const LINK_DETACH: libc::c_long = 34;

/// A kind of program, and where on an interface it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// XDP, by the name of libxdp's program that runs others.
    Dispatcher,
    /// tcx, egress.
    TcxEgress,
}

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

/// Attaches a program that stays as long as what is returned.
#[track_caller]
pub fn attach(namespace: &NetNs, interface: &str, hook: Hook) -> File {
    // r0 = XDP_PASS or TCX_NEXT; exit.
    static PASS: [[u64; 2]; 2] = [[0x0000_0002_0000_00b7, 0x95], [0xffff_ffff_0000_00b7, 0x95]];
    static LICENCE: &[u8] = b"GPL\0";
    let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
    let (kind, place) = match hook {
        Hook::Xdp | Hook::Dispatcher => (6, 37),
        Hook::TcxEgress => (3, 47),
    };
    let instructions = halves(PASS[usize::from(hook == Hook::TcxEgress)].as_ptr() as u64);
    let licence = halves(LICENCE.as_ptr() as u64);
    let name: &[u8; 16] = if hook == Hook::Dispatcher { b"xdp_dispatcher\0\0" } else { &[0; 16] };
    let name = |at: usize| u32::from_ne_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    let code = [kind, 2, instructions[0], instructions[1], licence[0], licence[1]];
    let log_and_flags = [0; 6];
    let program = [&code[..], &log_and_flags, &[name(0), name(4), name(8), name(12)]].concat();
    let program = bpf(PROG_LOAD, &program)
        .unwrap_or_else(|error| panic!("cannot load a program for {hook:?}: {error}"));
    namespace.run(|| {
        let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
        // tcx reads 16 bytes more than XDP; zero means: no relative program, any revision.
        bpf(LINK_CREATE, &[program.as_raw_fd().cast_unsigned(), index, place, 0, 0, 0, 0, 0])
            .unwrap_or_else(|error| panic!("cannot attach to {interface}: {error}"))
    })
}

/// Detaches every XDP and tcx link from an interface, whosever it is; how many there were.
#[track_caller]
pub fn take_off(namespace: &NetNs, interface: &str) -> usize {
    let (index, programs) = namespace.run(|| {
        let links = link::links().expect("interfaces can be listed");
        let link = links.into_iter().find(|l| l.name == interface).expect("the interface is there");
        let tcx = [TcAttachType::Ingress, TcAttachType::Egress].map(|side| {
            SchedClassifier::query_tcx(interface, side).map_or_else(|_| Vec::new(), |(_, there)| there)
        });
        let tcx = tcx.iter().flatten().map(|program| program.id());
        (link.index, tcx.chain(link.xdp_program).collect::<Vec<_>>())
    });
    let mut taken = 0;
    for id in link_ids() {
        // One that has gone meanwhile is another test's.
        let Ok(link) = bpf(LINK_GET_FD_BY_ID, &[id, 0, 0]) else { continue };
        let facts = Facts::of(link.as_fd()).expect("a link tells of itself");
        let is_there = facts.number("ifindex") == Some(index);
        if is_there && facts.number("prog_id").is_some_and(|id| programs.contains(&id)) {
            let descriptor = link.as_raw_fd();
            // SAFETY: the kernel reads the one word given.
            let done = unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const descriptor, 4) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
            taken += 1;
        }
    }
    taken
}

fn link_ids() -> Vec<u32> {
    let mut ids = Vec::new();
    loop {
        let mut words = [ids.last().copied().unwrap_or(0), 0, 0];
        // SAFETY: the kernel reads and writes the three words given.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, LINK_GET_NEXT_ID, words.as_mut_ptr(), size_of_val(&words))
        };
        if done != 0 {
            return ids;
        }
        ids.push(words[1]);
    }
}
