//! Who may change a flow at this moment.
//!
//! The kernel's spin lock costs a healthy segment more than all the rest of its way. So the short way takes an established
//! flow by one word of it, [`Flow::busy`]: it adds itself there, and goes on if nobody else is in it. Everybody else adds
//! himself, too, which keeps the short way out from then on, and waits until who was there has left. The kernel's lock keeps
//! apart those who waited.
//!
//! A locked addition is a barrier where this is used (x86-64): of two who add and then look, one at least sees the other. Who
//! is on the short way stays for some hundred nanoseconds, and is not preempted: programs run with softirqs off. But a
//! virtual machine's processor may stand still meanwhile, so there is an end to waiting ([`wait`]).
//!
//! Elsewhere, and among the half-open, where no short way leads, there is only the kernel's lock ([`Config::own_lock`]).
//!
//! [`Config::own_lock`]: agent_ebpf::layout::Config::own_lock

use crate::{
    maps::{CONFIG, PASTIME},
    world::put,
};
use agent_ebpf::flow::Flow;
use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_ktime_get_ns, bpf_spin_lock, bpf_spin_unlock},
};
use core::arch::asm;

/// Looks before another try of the short way: about as long as the long way takes, which who fails has to go.
const GLANCES: u32 = 16;
/// How often the short way is tried once more.
const TRIES: u32 = 3;
/// Looks while somebody is on the short way, which takes some hundred nanoseconds; between two of them the clock is asked.
const SOON: u32 = 16;
/// Looks some hundred microseconds apart, while a virtual machine's processor stands still.
const LATE: u32 = 160;
/// How long the processor is kept waiting at most, nanoseconds: hypervisors take one away for some milliseconds at a time.
const PATIENCE: u64 = 50_000_000;

/// Keeps the short way off an established flow, once who is on it has left; false where that takes too long.
#[inline(always)]
pub fn enter(entry: *mut Flow) -> bool {
    if CONFIG.load().own_lock == 0 {
        return true;
    }
    add(entry, Flow::LONG);
    let alone = !shorts(entry) || wait(entry);
    if !alone {
        leave(entry);
    }
    alone
}

/// Lets the short way on again.
#[inline(always)]
pub fn leave(entry: *mut Flow) {
    if CONFIG.load().own_lock != 0 {
        add(entry, Flow::LONG.wrapping_neg());
    }
}

/// Takes the kernel's lock of a flow.
#[inline(always)]
pub fn lock(entry: *mut Flow) {
    // SAFETY: the pointer is to a map value, whose first field is the lock.
    unsafe { bpf_spin_lock((&raw mut (*entry).lock).cast()) };
}

/// Lets it go.
#[inline(always)]
pub fn unlock(entry: *mut Flow) {
    // SAFETY: as for `lock`.
    unsafe { bpf_spin_unlock((&raw mut (*entry).lock).cast()) };
}

/// Takes an established flow for the short way, if nobody is at work on it.
#[inline(always)]
pub fn try_lock(entry: *mut Flow) -> bool {
    if CONFIG.load().own_lock == 0 {
        lock(entry);
        return true;
    }
    try_once(entry) || try_again(entry)
}

/// Once, at once: to look first would fetch the cache line twice, to read it and to write to it.
#[inline(always)]
fn try_once(entry: *mut Flow) -> bool {
    add(entry, Flow::SHORT);
    let alone = busy(entry) == Flow::SHORT;
    if !alone {
        add(entry, Flow::SHORT.wrapping_neg());
    }
    alone
}

/// Some more times, whenever nobody seems to be there: an addition takes the cache line from whoever has to write to it. A
/// function of its own, as the verifier follows what comes after each try.
#[inline(never)]
fn try_again(entry: *mut Flow) -> bool {
    for _ in 0..TRIES {
        for _ in 0..GLANCES {
            if busy(entry) == 0 {
                break;
            }
            pause();
        }
        if try_once(entry) {
            return true;
        }
    }
    false
}

/// Lets it go.
#[inline(always)]
pub fn release(entry: *mut Flow) {
    if CONFIG.load().own_lock == 0 {
        unlock(entry);
    } else {
        add(entry, Flow::SHORT.wrapping_neg());
    }
}

/// Until nobody is on the short way any more; false where that takes too long.
#[inline(never)]
fn wait(entry: *mut Flow) -> bool {
    // SAFETY: takes no argument.
    let began = unsafe { bpf_ktime_get_ns() };
    for _ in 0..SOON {
        if !shorts(entry) {
            return true;
        }
        pause();
    }
    let Some(room) = PASTIME.get_ptr(0) else { return false };
    for _ in 0..LATE {
        if !shorts(entry) {
            return true;
        }
        put(&PASTIME, &0u32, room, BPF_ANY);
        // SAFETY: takes no argument.
        if unsafe { bpf_ktime_get_ns() }.wrapping_sub(began) > PATIENCE {
            break;
        }
    }
    false
}

/// Some ten nanoseconds, in which the cache line is left to whoever has it.
#[inline(always)]
fn pause() {
    // SAFETY: takes no argument. What it tells is not asked for.
    unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
fn shorts(entry: *mut Flow) -> bool {
    busy(entry) & (Flow::LONG - 1) != 0
}

#[inline(always)]
fn busy(entry: *mut Flow) -> u32 {
    // SAFETY: the pointer is to a map value; a word is whole.
    unsafe { (&raw const (*entry).busy).read_volatile() }
}

/// Adds to [`Flow::busy`]. What is before it in the program happens before, and what is behind it afterwards.
#[inline(always)]
fn add(entry: *mut Flow, n: u32) {
    // SAFETY: as above; the compiler moves no access to memory over it.
    unsafe {
        asm!("lock *(u32 *)({at} + 0) += {n}", at = in(reg) &raw mut (*entry).busy, n = in(reg) n as u64);
    }
}
