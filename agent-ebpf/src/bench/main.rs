//! The yardsticks of `cargo xtask bench packet`: programs that do less than ours and in the usual way, and a driver.
//!
//! The kernel's test run repeats one packet. The driver changes it each time, in place, so that data goes on in order and
//! flows come in any order, and jumps into the program under test; what it costs itself is measured with the empty one.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics), allow(internal_features))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Never reached: the build refuses an object in which a panic is.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// As the agent's own object, whose tests these are.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
mod programs {
    use agent_ebpf::layout::bench::{Drive, FLOOR_FLOWS, ORDER};
    use aya_ebpf::{
        bindings::{BPF_ANY, TC_ACT_UNSPEC, xdp_action},
        btf_maps::{Array, LruHashMap, PerCpuArray, ProgramArray},
        macros::{btf_map, classifier, xdp},
        programs::{TcContext, XdpContext},
    };

    #[btf_map]
    static BENCH_FLOOR: LruHashMap<[u64; 5], [u64; 8], FLOOR_FLOWS> = LruHashMap::new();
    #[btf_map]
    static BENCH_DRIVE: Array<Drive, 1> = Array::new();
    #[btf_map]
    static BENCH_ORDER: Array<u32, ORDER> = Array::new();
    #[btf_map]
    static BENCH_AT: PerCpuArray<u32, 1> = PerCpuArray::new();
    #[btf_map]
    static BENCH_XDP: ProgramArray<1> = ProgramArray::new();
    #[btf_map]
    static BENCH_TC: ProgramArray<1> = ProgramArray::new();

    /// A packet's first and last byte.
    type Span = (usize, usize);

    #[inline(always)]
    fn at<T>((data, end): Span, offset: usize) -> Option<*mut T> {
        if data + offset + size_of::<T>() > end { None } else { Some((data + offset) as *mut T) }
    }

    /// The bytes at an offset, copied one by one: they have no alignment.
    #[inline(always)]
    fn bytes<const N: usize>(span: Span, offset: usize) -> Option<[u8; N]> {
        // SAFETY: in bounds; bytes are aligned anywhere.
        Some(unsafe { *at::<[u8; N]>(span, offset)? })
    }

    /// Ethernet, IPv4 or IPv6, TCP: a 40-byte key, as most peers have it.
    #[inline(always)]
    fn parse(span: Span) -> Option<[u64; 5]> {
        let mut key = [0u64; 5];
        let ports = match bytes::<2>(span, 12)? {
            [8, 0] => {
                let h = bytes::<20>(span, 14)?;
                if h[9] != 6 {
                    return None;
                }
                key[0] = u32::from_ne_bytes([h[12], h[13], h[14], h[15]]) as u64;
                key[2] = u32::from_ne_bytes([h[16], h[17], h[18], h[19]]) as u64;
                bytes::<4>(span, 34)?
            }
            [0x86, 0xdd] => {
                if bytes::<1>(span, 20)? != [6] {
                    return None;
                }
                let a = bytes::<32>(span, 22)?;
                let mut i = 0;
                while i < 4 {
                    let b = [a[8 * i], a[8 * i + 1], a[8 * i + 2], a[8 * i + 3]];
                    let c = [a[8 * i + 4], a[8 * i + 5], a[8 * i + 6], a[8 * i + 7]];
                    key[i] = (u32::from_ne_bytes(b) as u64) << 32 | u32::from_ne_bytes(c) as u64;
                    i += 1;
                }
                bytes::<4>(span, 54)?
            }
            _ => return None,
        };
        key[4] = u32::from_ne_bytes(ports) as u64;
        Some(key)
    }

    /// One look-up and one atomic addition.
    #[inline(always)]
    fn floor(span: Span) {
        let Some(key) = parse(span) else { return };
        match BENCH_FLOOR.get_ptr_mut(&key) {
            Some(entry) => {
                // SAFETY: the entry is eight words.
                unsafe {
                    core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
                        entry.cast::<u64>(),
                        1,
                    );
                }
            }
            None => {
                let _ = BENCH_FLOOR.insert(&key, &[1; 8], BPF_ANY as u64);
            }
        }
    }

    /// The next packet's flow and number.
    #[inline(always)]
    fn drive(span: Span) -> Option<()> {
        let d = BENCH_DRIVE.get(0)?;
        if d.step != 0 {
            let place = match d.version {
                4 => at::<[u8; 4]>(span, 38)?,
                _ => at::<[u8; 4]>(span, 58)?,
            };
            // SAFETY: in bounds, as for the next.
            unsafe { *place = u32::from_be_bytes(*place).wrapping_add(d.step).to_be_bytes() };
        }
        if d.mask != 0 {
            let cursor = BENCH_AT.get_ptr_mut(0)?;
            // SAFETY: this processor's own.
            let n = unsafe {
                *cursor = (*cursor).wrapping_add(1);
                *cursor
            };
            let flow = *BENCH_ORDER.get(n.wrapping_add(d.start) & d.mask)?;
            let (addr, port) = match d.server {
                0 => (at::<[u8; 4]>(span, 26)?, at::<[u8; 2]>(span, 34)?),
                _ => (at::<[u8; 4]>(span, 30)?, at::<[u8; 2]>(span, 36)?),
            };
            // SAFETY: in bounds.
            unsafe {
                *addr = (0x0a80_0000 | (flow >> 14)).to_be_bytes();
                *port = (1_024 + (flow & 0x3fff) as u16).to_be_bytes();
            }
        }
        Some(())
    }

    fn of_xdp(ctx: &XdpContext) -> Span {
        (ctx.data(), ctx.data_end())
    }

    fn of_tc(ctx: &TcContext) -> Span {
        (ctx.data(), ctx.data_end())
    }

    #[xdp(frags)]
    fn bench_xdp_empty(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[xdp(frags)]
    fn bench_xdp_parse(ctx: XdpContext) -> u32 {
        core::hint::black_box(parse(of_xdp(&ctx)).is_some());
        xdp_action::XDP_PASS
    }

    #[xdp(frags)]
    fn bench_xdp_floor(ctx: XdpContext) -> u32 {
        floor(of_xdp(&ctx));
        xdp_action::XDP_PASS
    }

    #[xdp(frags)]
    fn bench_xdp_drive(ctx: XdpContext) -> u32 {
        drive(of_xdp(&ctx));
        // SAFETY: the map holds a program of this kind.
        unsafe { BENCH_XDP.tail_call(&ctx, 0) };
        xdp_action::XDP_ABORTED
    }

    #[classifier]
    fn bench_tc_empty(_: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }

    #[classifier]
    fn bench_tc_parse(ctx: TcContext) -> i32 {
        core::hint::black_box(parse(of_tc(&ctx)).is_some());
        TC_ACT_UNSPEC
    }

    #[classifier]
    fn bench_tc_floor(ctx: TcContext) -> i32 {
        floor(of_tc(&ctx));
        TC_ACT_UNSPEC
    }

    #[classifier]
    fn bench_tc_drive(ctx: TcContext) -> i32 {
        drive(of_tc(&ctx));
        // SAFETY: the map holds a program of this kind.
        unsafe { BENCH_TC.tail_call(&ctx, 0) };
        2
    }
}
