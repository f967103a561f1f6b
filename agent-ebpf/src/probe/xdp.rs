//! Ingress at XDP. Every path passes the packet on, unchanged.

use crate::{frame::XdpFrame, world::Kernel};
use agent_ebpf::{label::Direction, pipeline};
use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

#[xdp(frags)]
fn ft_xdp_in(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel hands the program a valid context.
    let ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    #[cfg(feature = "probe-log")]
    aya_log_ebpf::debug!(&ctx, "xdp: a packet on interface {}", ifindex);
    pipeline::run(&Kernel, &XdpFrame::new(&ctx), ifindex, Direction::Ingress);
    xdp_action::XDP_PASS
}
