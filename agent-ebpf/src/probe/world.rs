//! The pipeline's tables, as kernel maps.
//!
//! A flow's entry is looked up first and changed in place, under the lock inside it. No helper may be called under the
//! lock. No table forgets by itself, as an LRU map does without a word: a full one refuses, which is counted.

use crate::{
    flows::{flows4, flows6},
    lock,
    maps::*,
};
use agent_ebpf::{
    flow::{Closed, Flow, FlowKey},
    layout::{Config, HealthCounts, ServiceKey, Tick, Totals},
    pipeline::{Scratch, World},
    quick::Plain,
    scoreboard::Scoreboard,
    sighting::Settings,
    time::Nanos,
    wire::Addr,
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    btf_maps::{PerCpuArray, lpm_trie::Key},
    helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, generated::bpf_map_update_elem},
};
use bytemuck::Pod;
use core::ptr::NonNull;

/// The kernel's tables.
pub struct Kernel;

/// The only entry of a per-CPU map.
#[inline(always)]
pub fn first<T>(map: &PerCpuArray<T, 1>) -> Option<*mut T> {
    map.get_ptr_mut(0)
}

/// Writes an entry, and says whether it could. By the helper itself: the library's wrapper returns a pair, and where the
/// compiler does not inline it a BPF function cannot.
#[inline(always)]
pub fn put<M, K, V>(map: &M, key: &K, value: *const V, flags: u32) -> bool {
    // SAFETY: a map's static is its handle; key and value are of the map's sizes, as the callers' types say.
    unsafe {
        bpf_map_update_elem(
            core::ptr::from_ref(map).cast_mut().cast(),
            core::ptr::from_ref(key).cast_mut().cast(),
            value.cast_mut().cast(),
            flags as u64,
        ) == 0
    }
}

/// Asks the map of the key's family.
macro_rules! by_family {
    ($key:expr, $v4:ident, $v6:ident, |$map:ident, $k:ident| $work:expr) => {
        match $key {
            FlowKey::V4($k) => {
                let $map = &$v4;
                $work
            }
            FlowKey::V6($k) => {
                let $map = &$v6;
                $work
            }
        }
    };
}

impl World for Kernel {
    #[inline(always)]
    fn now(&self) -> Nanos {
        if CONFIG.load().test_clock != 0
            && let Some(t) = CLOCK.get(0)
        {
            return Nanos(*t);
        }
        // SAFETY: takes no argument.
        Nanos(unsafe { bpf_ktime_get_ns() })
    }

    #[inline(always)]
    fn coarse_now(&self) -> Nanos {
        let config = CONFIG.load();
        if config.test_clock != 0 || config.coarse_clock == 0 {
            return self.now();
        }
        // SAFETY: takes no argument; on the way of nearly every packet, and no call where the kernel's compiler is at work.
        let jiffies = unsafe { bpf_jiffies64() };
        // SAFETY: this processor's own, and a program is not interrupted by another of ours.
        match first(&TICK).map(|tick| unsafe { &mut *tick }) {
            Some(tick) if tick.jiffies == jiffies => Nanos(tick.at),
            tick => {
                // SAFETY: takes no argument.
                let at = unsafe { bpf_ktime_get_coarse_ns() };
                if let Some(tick) = tick {
                    *tick = Tick { jiffies, at };
                }
                Nanos(at)
            }
        }
    }

    #[inline(always)]
    fn config(&self) -> Config {
        CONFIG.load()
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        match SETTINGS.get(0) {
            Some(s) => *s,
            None => Settings { idle: u64::MAX, time_wait: 0, full: 0 },
        }
    }

    #[inline(always)]
    fn point(&self, ifindex: u32) -> Option<u8> {
        let p = POINTS.get(ifindex & 0xffff)?;
        if p.ifindex == ifindex { Some(p.point as u8) } else { None }
    }

    #[inline(always)]
    fn likely(&self, key: &FlowKey) -> Option<*mut Flow> {
        match key {
            FlowKey::V4(k) => flows4::likely(k),
            FlowKey::V6(k) => flows6::likely(k),
        }
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<*mut Flow> {
        match key {
            FlowKey::V4(k) => flows4::find(k).map(NonNull::as_ptr),
            FlowKey::V6(k) => flows6::find(k).map(NonNull::as_ptr),
        }
    }

    #[inline(always)]
    fn half_open(&self, key: &FlowKey) -> Option<*mut Flow> {
        by_family!(key, HALF_OPEN4, HALF_OPEN6, |map, k| map.get_ptr_mut(k))
    }

    #[inline(always)]
    fn create(&self, key: &FlowKey) -> Option<*mut Flow> {
        let blank = self.moving()?;
        // SAFETY: the scratch is this processor's own and of a flow's size.
        unsafe { (*blank).wipe(key.tag()) };
        by_family!(key, HALF_OPEN4, HALF_OPEN6, |map, k| {
            put(map, k, blank, BPF_NOEXIST);
            map.get_ptr_mut(k)
        })
    }

    #[inline(always)]
    fn reserve(&self, key: &FlowKey) -> Option<*mut Flow> {
        match key {
            FlowKey::V4(k) => flows4::reserve(k).map(NonNull::as_ptr),
            FlowKey::V6(k) => flows6::reserve(k).map(NonNull::as_ptr),
        }
    }

    #[inline(always)]
    fn moving(&self) -> Option<*mut Flow> {
        Some(first(&MOVING)?.cast())
    }

    #[inline(always)]
    fn abandon(&self, key: &FlowKey) {
        by_family!(key, HALF_OPEN4, HALF_OPEN6, |map, k| {
            let _ = map.remove(k);
        });
    }

    #[inline(always)]
    fn score(&self, key: &FlowKey, make: bool) -> Option<*mut Scoreboard> {
        by_family!(key, SCORES4, SCORES6, |map, k| {
            if let Some(sc) = map.get_ptr_mut(k) {
                return Some(sc);
            }
            if !make {
                return None;
            }
            put(map, k, BLANK.get_ptr(0)?, BPF_NOEXIST);
            map.get_ptr_mut(k)
        })
    }

    #[inline(always)]
    fn closed(&self, key: &FlowKey) -> Option<Closed> {
        // SAFETY: plain integers; a torn read of an entry being rewritten gives a gap, never a fault.
        by_family!(key, CLOSED4, CLOSED6, |map, k| unsafe { map.get(k) }.copied())
    }

    #[inline(always)]
    fn remember(&self, key: &FlowKey, closed: &Closed) -> bool {
        by_family!(key, CLOSED4, CLOSED6, |map, k| {
            if let Some(old) = map.get_ptr_mut(k) {
                // SAFETY: in place, as the module says.
                unsafe { *old = *closed };
                return true;
            }
            put(map, k, closed, BPF_ANY)
        })
    }

    #[inline(always)]
    fn service(&self, addr: &Addr, port: u16) -> u16 {
        let ask = |port: u16| {
            let key = ServiceKey { port: port.to_be_bytes(), reserved: [0; 2], addr: addr.octets() };
            SERVICES.get(&Key::new(8 * size_of::<ServiceKey>() as u32, key)).copied()
        };
        match ask(port) {
            Some(n) => n as u16,
            None => match ask(0) {
                Some(n) => n as u16,
                None => 0,
            },
        }
    }

    #[inline(always)]
    fn hops(&self, place: u32) -> Option<*mut u64> {
        HOPS.get_ptr_mut(place)
    }

    #[inline(always)]
    fn enter(&self, entry: *mut Flow) -> bool {
        lock::enter(entry)
    }

    #[inline(always)]
    fn leave(&self, entry: *mut Flow) {
        lock::leave(entry);
    }

    #[inline(always)]
    fn lock(&self, entry: *mut Flow) {
        lock::lock(entry);
    }

    #[inline(always)]
    fn unlock(&self, entry: *mut Flow) {
        lock::unlock(entry);
    }

    #[inline(always)]
    fn try_lock(&self, entry: *mut Flow) -> bool {
        lock::try_lock(entry)
    }

    #[inline(always)]
    fn release(&self, entry: *mut Flow) {
        lock::release(entry);
    }

    #[inline(always)]
    fn totals(&self, index: u32) -> Option<*mut Totals> {
        TOTALS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn health(&self, index: u32) -> Option<*mut HealthCounts> {
        HEALTH.get_ptr_mut(index)
    }

    #[inline(always)]
    fn scratch(&self) -> Option<*mut Scratch> {
        Some(first(&SCRATCH)?.cast())
    }

    #[inline(always)]
    fn plain(&self) -> Option<*mut Plain> {
        Some(first(&PLAIN)?.cast())
    }

    #[inline(always)]
    fn submit<T: Pod>(&self, fill: impl FnOnce(*mut T)) -> bool {
        let Some(mut room) = EVENTS.reserve_untyped::<T>(0) else {
            return false;
        };
        fill(room.as_mut_ptr());
        // The daemon drains on a timer: waking it for each record would cost the packet more than all the rest.
        room.submit(BPF_RB_NO_WAKEUP as u64);
        true
    }
}
