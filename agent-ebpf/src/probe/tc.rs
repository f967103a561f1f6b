//! Egress at tc, and ingress where XDP cannot be had. Every path lets the next program go on, the packet unchanged.

use crate::{flows, frame::SkbFrame, world::Kernel};
use agent_ebpf::{
    label::Direction,
    layout::{Read, STEP, Take},
    pipeline,
    wire::Frame as _,
};
use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

#[classifier]
fn ft_tc_out(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Egress)
}

#[classifier]
fn ft_tc_in(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Ingress)
}

/// Never attached: see [`agent_ebpf::layout::Take`].
#[classifier]
fn ft_take(ctx: TcContext) -> i32 {
    match SkbFrame::new(&ctx).load::<{ size_of::<Take>() }>(0) {
        Some(bytes) => flows::take(&bytemuck::cast(bytes)) as i32,
        None => 0,
    }
}

/// Never attached: see [`agent_ebpf::layout::Read`].
#[classifier]
fn ft_read(ctx: TcContext) -> i32 {
    let Some(bytes) = SkbFrame::new(&ctx).load::<{ size_of::<Read>() }>(0) else { return 0 };
    let what: Read = bytemuck::cast(bytes);
    if what.over != 0 {
        return what.row as i32;
    }
    let row = flows::read(&what);
    let read = row - what.row;
    let next = Read { first: what.first + read, row, over: (read < STEP).into(), ..what };
    // Where it cannot be moved on the next run brings the same rows again.
    let _ = ctx.store(0, &next, 0);
    row as i32
}

#[inline(always)]
fn observe(ctx: &TcContext, direction: Direction) -> i32 {
    // SAFETY: the kernel hands the program a valid context.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    #[cfg(feature = "probe-log")]
    aya_log_ebpf::debug!(ctx, "tc: a packet on interface {}", ifindex);
    pipeline::run(&Kernel, &SkbFrame::new(ctx), ifindex, direction);
    TC_ACT_UNSPEC
}
