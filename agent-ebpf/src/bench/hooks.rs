//! Each program at XDP and at tc. A packet that was not what the program expects is refused, so that a test run tells.

use crate::{driver, floor, packet::Packet};
use agent_ebpf::drive::{TC, XDP};
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use core::hint::black_box;

#[inline(always)]
fn of_xdp(ctx: &XdpContext) -> Packet {
    Packet { data: ctx.data(), end: ctx.data_end() }
}

#[inline(always)]
fn of_tc(ctx: &TcContext) -> Packet {
    Packet { data: ctx.data(), end: ctx.data_end() }
}

#[inline(always)]
fn xdp_verdict(done: Option<()>) -> u32 {
    if done.is_some() { xdp_action::XDP_PASS } else { xdp_action::XDP_ABORTED }
}

#[inline(always)]
fn tc_verdict(done: Option<()>) -> i32 {
    if done.is_some() { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

#[inline(always)]
fn parsed(packet: Packet) -> Option<()> {
    black_box(&floor::parse(packet)?);
    Some(())
}

#[inline(always)]
fn counted(packet: Packet) -> Option<()> {
    floor::count(&floor::parse(packet)?)
}

#[xdp(frags)]
fn empty_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[xdp(frags)]
fn parse_xdp(ctx: XdpContext) -> u32 {
    xdp_verdict(parsed(of_xdp(&ctx)))
}

#[xdp(frags)]
fn floor_xdp(ctx: XdpContext) -> u32 {
    xdp_verdict(counted(of_xdp(&ctx)))
}

#[xdp(frags)]
fn drive_xdp(ctx: XdpContext) -> u32 {
    if let Some(target) = driver::next(of_xdp(&ctx), XDP) {
        driver::xdp(&ctx, target);
    }
    xdp_action::XDP_ABORTED
}

#[classifier]
fn empty_tc(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[classifier]
fn parse_tc(ctx: TcContext) -> i32 {
    tc_verdict(parsed(of_tc(&ctx)))
}

#[classifier]
fn floor_tc(ctx: TcContext) -> i32 {
    tc_verdict(counted(of_tc(&ctx)))
}

#[classifier]
fn drive_tc(ctx: TcContext) -> i32 {
    if let Some(target) = driver::next(of_tc(&ctx), TC) {
        driver::tc(&ctx, target);
    }
    TC_ACT_SHOT
}
