//! The least that a program which follows connections has to do: read the headers, find the flow, count.

use crate::packet::Packet;
use aya_ebpf::{
    bindings::BPF_NOEXIST, btf_maps::LruHashMap, helpers::generated::bpf_map_update_elem, macros::btf_map,
};
use core::arch::asm;

const VLAN: u16 = 0x8100_u16.to_be();
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const TCP: u8 = 6;

/// A flow, one direction of it: 40 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Key {
    source: [u32; 4],
    destination: [u32; 4],
    ports: u32,
    protocol: u32,
}
const _: () = assert!(size_of::<Key>() == 40);

/// Packets by flow.
#[btf_map]
static FLOOR: LruHashMap<Key, u64, 65_536> = LruHashMap::new();

/// Ethernet, one VLAN tag at most, IPv4 or IPv6, TCP.
#[inline(always)]
pub fn parse(packet: Packet) -> Option<Key> {
    let (mut kind, mut at) = (packet.u16(12)?, 14);
    if kind == VLAN {
        (kind, at) = (packet.u16(16)?, 18);
    }
    let mut key = Key { source: [0; 4], destination: [0; 4], ports: 0, protocol: TCP as u32 };
    let tcp = if kind == IPV4 {
        let first = packet.u8(at)?;
        if packet.u8(at + 9)? != TCP {
            return None;
        }
        (key.source[3], key.destination[3]) = (packet.u32(at + 12)?, packet.u32(at + 16)?);
        at + 4 * (first & 15) as u32
    } else if kind == IPV6 {
        if packet.u8(at + 6)? != TCP {
            return None;
        }
        (key.source, key.destination) = (packet.address(at + 8)?, packet.address(at + 24)?);
        at + 40
    } else {
        return None;
    };
    if !packet.holds(tcp + 20) {
        return None;
    }
    key.ports = packet.u32(tcp)?;
    Some(key)
}

/// Finds or makes the flow's entry and counts the packet.
#[inline(always)]
pub fn count(key: &Key) -> Option<()> {
    let found = match FLOOR.get_ptr_mut(key) {
        Some(found) => found,
        None => {
            let none = 0u64;
            // SAFETY: a map's static is its handle; key and value are of its sizes.
            unsafe {
                bpf_map_update_elem(
                    (&raw const FLOOR).cast_mut().cast(),
                    core::ptr::from_ref(key).cast_mut().cast(),
                    (&raw const none).cast_mut().cast(),
                    BPF_NOEXIST as u64,
                );
            }
            FLOOR.get_ptr_mut(key)?
        }
    };
    // SAFETY: adds to the entry's value, atomically.
    unsafe { asm!("lock *(u64 *)({at} + 0) += {one}", at = in(reg) found, one = in(reg) 1u64) };
    Some(())
}
