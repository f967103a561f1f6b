//! Makes the next packet out of the last one, as the plan says.

use crate::packet::Packet;
use agent_ebpf::drive::{ADDS, LISTED, ONE, Plan, ROW, ROWS, SLOTS, end_point};
use aya_ebpf::{
    EbpfContext,
    btf_maps::{Array, ProgramArray},
    macros::btf_map,
};

/// By hook.
#[btf_map]
static PLANS: Array<Plan, 2> = Array::new();
/// Numbers of flows.
#[btf_map]
static LIST: Array<[u32; ROW as usize], { ROWS as usize }> = Array::new();
/// Programs under test at XDP.
#[btf_map]
static XDP_TARGETS: ProgramArray<{ SLOTS as usize }> = ProgramArray::new();
/// Programs under test at tc.
#[btf_map]
static TC_TARGETS: ProgramArray<{ SLOTS as usize }> = ProgramArray::new();

/// Changes the packet and says which program comes next.
#[inline(always)]
pub fn next(packet: Packet, hook: u32) -> Option<u32> {
    // SAFETY: one processor at a time drives a hook.
    let plan = unsafe { &mut *PLANS.get_ptr_mut(hook)? };
    let n = plan.done;
    plan.done = n.wrapping_add(1);
    if plan.flows != ONE {
        let place = plan.first.wrapping_add(n);
        let flow =
            if plan.flows == LISTED { LIST.get(place / ROW % ROWS)?[(place % ROW) as usize] } else { place };
        let (address, port) = end_point(plan.address, flow);
        packet.set_u32(plan.address_at & 0xff, address.to_be())?;
        packet.set_u16(plan.port_at & 0xff, port.to_be())?;
    }
    for (i, add) in plan.adds.iter().enumerate().take(ADDS) {
        if i as u32 >= plan.count {
            break;
        }
        let by = if n & 1 == 0 { add.by[0] } else { add.by[1] };
        let at = add.at & 0xff;
        let number = u32::from_be(packet.u32(at)?).wrapping_add(by);
        packet.set_u32(at, number.to_be())?;
    }
    Some(plan.target)
}

/// Goes on to the program under test at XDP; comes back only if there is none.
#[inline(always)]
pub fn xdp<C: EbpfContext>(ctx: &C, target: u32) {
    // SAFETY: nothing is held that would have to be dropped.
    unsafe { XDP_TARGETS.tail_call(ctx, target) };
}

/// The same at tc.
#[inline(always)]
pub fn tc<C: EbpfContext>(ctx: &C, target: u32) {
    // SAFETY: as for `xdp`.
    unsafe { TC_TARGETS.tail_call(ctx, target) };
}
