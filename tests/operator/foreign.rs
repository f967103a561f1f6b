//! Programs of a stranger on the gateway's interfaces: the smallest there are, which let every packet pass, or count it
//! besides. And a stranger who takes programs off.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::path::Path;

use agent::link;
use agent::sys::pin::{self, Facts};
use aya::maps::{Array, Map, MapData};
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use harness::NetNs;

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;

static LICENCE: &[u8] = b"GPL\0";

/// A kind of program, and where on an interface it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// XDP, by the name of libxdp's program that runs others.
    Dispatcher,
    /// tcx, ingress.
    TcxIngress,
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
    let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
    let (kind, place) = match hook {
        Hook::Xdp | Hook::Dispatcher => (6, 37),
        Hook::TcxIngress => (3, 46),
        Hook::TcxEgress => (3, 47),
    };
    let instructions = halves(PASS[usize::from(kind == 3)].as_ptr() as u64);
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

/// Where a counting program is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// tcx, before all that are there.
    First(TcAttachType),
    /// tcx, behind all that are there.
    Last(TcAttachType),
}

/// A stranger's program that counts packets, loaded and attached to nothing yet.
pub struct Counting {
    count: Array<MapData, u64>,
    program: File,
}

impl Counting {
    /// Loads one for XDP, or for tc.
    #[track_caller]
    pub fn load(xdp: bool) -> Self {
        // An array of one number.
        let map = bpf(MAP_CREATE, &[2, 4, 8, 1]).expect("a map can be made");
        let pass: i32 = if xdp { 2 } else { -1 };
        let code: [u64; 11] = [
            0x0000_0000_fffc_0a62,                        // the key on the stack: 0
            0x0000_0000_0000_a2bf,                        // r2 = r10
            0xffff_fffc_0000_0207,                        // r2 -= 4
            (map.as_raw_fd() as u64) << 32 | 0x1118,      // r1 = the map
            0,                                            //
            0x0000_0001_0000_0085,                        // bpf_map_lookup_elem
            0x0000_0000_0002_0015,                        // if r0 == 0, pass
            0x0000_0001_0000_01b7,                        // r1 = 1
            0x0000_0000_0000_10db,                        // lock *r0 += r1
            u64::from(pass.cast_unsigned()) << 32 | 0xb7, // r0 = pass
            0x95,                                         // exit
        ];
        let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
        let (instructions, licence) = (halves(code.as_ptr() as u64), halves(LICENCE.as_ptr() as u64));
        let kind = if xdp { 6 } else { 3 };
        let words = [kind, 11, instructions[0], instructions[1], licence[0], licence[1]];
        let program = bpf(PROG_LOAD, &words).unwrap_or_else(|error| panic!("cannot load a counter: {error}"));
        let map = MapData::from_fd(map.into()).expect("it is a map");
        Self { count: Map::Array(map).try_into().expect("of numbers"), program }
    }

    /// Hangs it among the tcx programs of an interface, as long as what is returned.
    #[track_caller]
    pub fn among(&self, namespace: &NetNs, interface: &str, among: Among) -> File {
        let (side, flag) = match among {
            Among::First(side) => (side, 1 << 3),
            Among::Last(side) => (side, 1 << 4),
        };
        let place = if matches!(side, TcAttachType::Ingress) { 46 } else { 47 };
        namespace.run(|| {
            let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
            bpf(LINK_CREATE, &[self.program.as_raw_fd().cast_unsigned(), index, place, flag, 0, 0, 0, 0])
                .unwrap_or_else(|error| panic!("cannot attach to {interface}: {error}"))
        })
    }

    /// Pins it, for other programs to attach.
    #[track_caller]
    pub fn pin(&self, path: &Path) {
        pin::put(self.program.as_fd(), path).expect("a program can be pinned");
    }

    /// Packets so far.
    #[track_caller]
    pub fn packets(&self) -> u64 {
        self.count.get(&0, 0).expect("it has one number")
    }
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
            pin::detach(link.as_fd()).expect("a link lets its program go");
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
