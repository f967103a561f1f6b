//! Conversations at random, from which proptest goes down to the smallest that still fails.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::end::Probe;
use crate::world::{Case, Harm, Ids, Impair, Profile, Say};

const MS: u64 = 1_000;

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(1_000_000),
        // Wraps, or passes the middle, a few segments on.
        (0u32..20_000).prop_map(|n| u32::MAX - n),
        (0u32..20_000).prop_map(|n| (1 << 31) - n),
    ]
}

fn profile(ids: impl Strategy<Value = Ids>) -> impl Strategy<Value = Profile> {
    let clock = prop_oneof![Just(Some(MS)), Just(Some(1_000 * MS)), Just(None)];
    let probe = prop_oneof![Just(Probe::Empty), Just(Probe::Byte)];
    (ids, clock, any::<bool>(), probe, 1u64..=4, 1u64..=3).prop_map(
        |(ids, clock, sack, probe, offload, ack_every)| Profile {
            ids,
            clock,
            sack,
            probe,
            offload,
            ack_every,
        },
    )
}

fn any_ids() -> impl Strategy<Value = Ids> + Clone {
    prop_oneof![Just(Ids::Connection), Just(Ids::Host), Just(Ids::Zero), Just(Ids::Random)]
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        6 => (0..2usize, 1..15_000u64, prop_oneof![Just(0), 0..20 * MS, Just(2_000 * MS)])
            .prop_map(|(side, bytes, pause)| Say::Bytes(side, bytes, pause)),
        1 => (0..2usize, any::<bool>()).prop_map(|(side, byte)| Say::KeepAlive(side, 10_000 * MS, byte)),
        1 => (0..2usize, 1..3_000u64).prop_map(|(side, ms)| Say::Stall(side, ms * MS)),
    ]
}

fn impair() -> impl Strategy<Value = Impair> {
    let late = || prop_oneof![1..50u64, 100..5 * MS, 5 * MS..400 * MS];
    let harm = prop_oneof![
        3 => Just(Harm::Lose),
        2 => late().prop_map(Harm::Delay),
        1 => late().prop_map(Harm::Copy),
    ];
    (0..2usize, any::<bool>(), 0..40u64, harm).prop_map(|(from, after, nth, harm)| Impair {
        from,
        after,
        nth,
        harm,
    })
}

fn case(ids: impl Strategy<Value = Ids> + Clone, v6: bool, most: usize) -> impl Strategy<Value = Case> {
    let ends = (number(), number(), any::<[u16; 2]>(), profile(ids.clone()), profile(ids));
    let way = (prop_oneof![Just(20), 100..10 * MS], prop_oneof![Just(30), 100..30 * MS]);
    let v6 = if v6 { any::<bool>().boxed() } else { Just(false).boxed() };
    (ends, way, v6, vec(say(), 1..5), 0..2usize, vec(impair(), 0..=most), 1u64..=4).prop_map(
        |((a, b, first_id, client, server), way, v6, says, closer, mut impairs, merge)| {
            let profiles = [client, server];
            // A super-packet is cut where it leaves its host: nothing happens to it before.
            impairs.retain(|i| i.after || profiles[i.from].offload == 1);
            Case { isn: [a, b], first_id, v6, profiles, way: [way.0, way.1], says, closer, impairs, merge }
        },
    )
}

/// Both ends' identifications grow packet by packet.
pub fn telling() -> impl Strategy<Value = Case> {
    case(Just(Ids::Connection), false, 6)
}

/// Any senders.
pub fn any_sender() -> impl Strategy<Value = Case> {
    case(any_ids(), true, 6)
}

/// Any senders, and nothing happens on the way.
pub fn clean() -> impl Strategy<Value = Case> {
    case(any_ids(), true, 0)
}
