//! What must add up whatever comes: every segment is a flow's or a stranger's, every packet counted or skipped.

use agent_ebpf::flow::Flow;
use agent_ebpf::health::{Health, Kind};
use agent_ebpf::time::Nanos;
use agent_ebpf::traffic::{Opened, Traffic};
use proptest::prelude::*;

use crate::random::sequence;
use harness::parity::rig::{LOOPBACK, host, knowledge};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No sequence panics (overflow checks are on here), and none loses or invents a packet, a segment or a flow.
    #[test]
    fn whatever_comes_adds_up(seed in any::<u64>(), order in any::<u64>()) {
        let mut packets = sequence(seed);
        let mut rng = fastrand::Rng::with_seed(order);
        if rng.bool() {
            // Also with time and order against all reason.
            rng.shuffle(&mut packets);
        }
        let mut host = host();
        for packet in &packets {
            host.feed(packet, LOOPBACK, packet.hook.direction(), Nanos(packet.at));
        }
        let known = knowledge(&mut host);
        let skipped: u64 = Health::ALL.iter().filter(|h| h.kind() == Kind::Skipped).map(|h| known.health(*h)).sum();
        prop_assert_eq!(known.health(Health::Seen), packets.len() as u64);
        prop_assert_eq!(known.health(Health::Counted) + skipped, packets.len() as u64);
        prop_assert_eq!(known.health(Health::RingSubmitted), known.records.len() as u64);
        for what in [Health::LostRace, Health::MapError, Health::RingLost] {
            prop_assert_eq!(known.health(what), 0);
        }
        let flows: Vec<&Flow> = known.flows.values().chain(known.half_open.values()).collect();
        let followed: u64 = flows.iter().flat_map(|f| f.half).map(|half| half.segments).sum();
        prop_assert!(followed <= known.traffic(Traffic::Segments, 0));
        let opened: u64 = Opened::ALL.iter().map(|by| known.traffic(Traffic::Opened, *by as usize)).sum();
        let closes = agent_ebpf::traffic::Close::ALL.iter().map(|c| known.traffic(Traffic::Closed, *c as usize));
        let open = flows.iter().filter(|f| !f.has(Flow::ENDED)).count() as u64;
        prop_assert_eq!(opened, closes.sum::<u64>() + open);
    }
}
