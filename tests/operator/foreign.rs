//! Programs of a stranger on the gateway's interfaces: the smallest there are, which let every packet pass.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use harness::NetNs;

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// A kind of program, and where on an interface it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
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
        Hook::Xdp => (6, 37),
        Hook::TcxEgress => (3, 47),
    };
    let instructions = halves(PASS[usize::from(hook == Hook::TcxEgress)].as_ptr() as u64);
    let licence = halves(LICENCE.as_ptr() as u64);
    let program = bpf(PROG_LOAD, &[kind, 2, instructions[0], instructions[1], licence[0], licence[1]])
        .unwrap_or_else(|error| panic!("cannot load a program for {hook:?}: {error}"));
    namespace.run(|| {
        let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
        // tcx reads 16 bytes more than XDP; zero means: no relative program, any revision.
        bpf(LINK_CREATE, &[program.as_raw_fd().cast_unsigned(), index, place, 0, 0, 0, 0, 0])
            .unwrap_or_else(|error| panic!("cannot attach to {interface}: {error}"))
    })
}
