//! Programs, and what the kernel can do with them.

use super::{bpf, owned};
use agent_ebpf::label::Direction;
use bytemuck::{Pod, Zeroable};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

const BPF_MAP_CREATE: i32 = 0;
const BPF_PROG_TEST_RUN: i32 = 10;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// Maps of a program that are looked at: as many as a program may have (MAX_USED_MAPS).
const MOST_MAPS: usize = 64;
/// More programs than the kernel lets hang on one hook (BPF_MPROG_MAX).
const MOST_TCX: usize = 64;

/// Make a ring buffer and drop it again: the newest thing the agent cannot do without (Linux 5.8).
pub fn try_ring_buffer() -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    let mut attribute =
        MapCreate { map_type: BPF_MAP_TYPE_RINGBUF, max_entries: 4096, ..MapCreate::zeroed() };
    bpf(BPF_MAP_CREATE, &mut attribute).map(|fd| drop(owned(fd)))
}

/// The beginning of the attribute of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// Have the kernel run a program so many times on these bytes as its packet, here and now; what it returns the last time. A
/// packet is at least an Ethernet header, and fits a page with what the kernel puts around it. Where a signal comes in between
/// that is an error (`EINTR`), and the program may have run: only the caller knows whether it may run again.
pub fn run<T: Pod>(program: BorrowedFd<'_>, packet: &[T], times: u32) -> io::Result<u32> {
    let mut attribute = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: size_of_val(packet) as u32,
        data_in: packet.as_ptr() as u64,
        repeat: times,
        ..TestRun::zeroed()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attribute)?;
    Ok(attribute.retval)
}

/// Up to `revision`, which the kernel writes from Linux 6.6 on, however short the attribute is that it was given.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ProgQuery {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

const _: () = assert!(size_of::<ProgQuery>() == 64, "the kernel writes up to there");

/// The ids of the programs that hang on the tcx hook of interface `index`, in the order in which they run.
pub fn tcx_programs(index: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let attach_type = match direction {
        Direction::Ingress => BPF_TCX_INGRESS,
        Direction::Egress => BPF_TCX_EGRESS,
    };
    let mut ids = vec![0; MOST_TCX];
    let mut attribute = ProgQuery {
        target: index,
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..ProgQuery::zeroed()
    };
    match bpf(BPF_PROG_QUERY, &mut attribute) {
        Ok(_) => ids.truncate(attribute.count as usize),
        // Nothing was ever attached there.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => ids.clear(),
        Err(e) => return Err(e),
    }
    Ok(ids)
}

/// Whether the kernel has tcx links (Linux 6.6), asked at the ingress of interface `index`.
pub fn has_tcx(index: u32) -> io::Result<bool> {
    let mut attribute = ProgQuery { target: index, attach_type: BPF_TCX_INGRESS, ..ProgQuery::zeroed() };
    match bpf(BPF_PROG_QUERY, &mut attribute) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        // Known, but nothing was ever attached there.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(e) => Err(e),
    }
}

/// What the kernel tells of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its type, a code of the kernel's.
    pub kind: u32,
    /// Its number.
    pub id: u32,
    /// Numbers of the maps that it uses, the first [`MOST_MAPS`].
    pub maps: Vec<u32>,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Nanoseconds it has run; counted only while `kernel.bpf_stats_enabled` is 1.
    pub run_time_ns: u64,
    /// How often it has run; counted as the time is.
    pub run_count: u64,
}

/// What the kernel tells of the program behind `fd`.
pub fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    /// The start of `struct bpf_prog_info`, up to what is read here; older kernels leave the end at zero.
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Info {
        kind: u32,
        id: u32,
        before: [u64; 5],
        created_by: u32,
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; 16],
        middle: [u64; 14],
        run_time_ns: u64,
        run_count: u64,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct InfoByFd {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut maps = vec![0u32; MOST_MAPS];
    let mut info =
        Info { nr_map_ids: maps.len() as u32, map_ids: maps.as_mut_ptr() as u64, ..Info::zeroed() };
    let mut attribute =
        InfoByFd { fd: fd.as_raw_fd() as u32, len: size_of::<Info>() as u32, info: &raw mut info as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    maps.truncate(info.nr_map_ids as usize);
    let name = info.name.split(|b| *b == 0).next().unwrap_or_default();
    Ok(ProgramInfo {
        kind: info.kind,
        id: info.id,
        maps,
        name: String::from_utf8_lossy(name).into_owned(),
        run_time_ns: info.run_time_ns,
        run_count: info.run_count,
    })
}

/// The name of program `id`, where this user may know it (the kernel asks for CAP_SYS_ADMIN).
pub fn program_name(id: u32) -> io::Result<String> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct ById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let fd = owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { id, ..ById::zeroed() })?);
    program_info(fd.as_fd()).map(|info| info.name)
}
