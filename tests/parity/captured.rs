//! What a real kernel sent, with loss: the same capture through both sides, compared after every frame.

use std::net::IpAddr;
use std::path::Path;

use agent_ebpf::label::Side;
use agent_ebpf::traffic::Traffic;
use agent_ebpf::wire::{Addr, Segment};
use harness::impair::Direction;
use harness::impair::rules::Random;
use harness::script::pcap;
use harness::tcp::{Serve, Server, connect};
use harness::topology::{OUTSIDE, SERVER};
use harness::truth::Capture;
use harness::{Gateway, eventually};

use crate::packet::{Hook, Packet};
use crate::rig::{Knowledge, Rig, agree, compare};

/// The frames of a capture at the hooks of the host with this address behind them: what is for it leaves.
pub fn packets(file: &Path, inside: IpAddr) -> Vec<Packet> {
    let inside = match inside {
        IpAddr::V4(ip) => Addr::v4(ip.octets()),
        IpAddr::V6(ip) => Addr::v6(ip.octets()),
    };
    let frames = pcap::read(file).unwrap_or_else(|error| panic!("cannot read the capture: {error}"));
    let packets = frames.into_iter().map(|timed| {
        let mut s = Segment::blank();
        let out = s.read(&timed.frame.as_slice()).is_ok() && s.dst == inside;
        let hook = if out { Hook::TcOut } else { Hook::Xdp };
        Packet { at: timed.at, hook, gso: (0, 0), bytes: timed.frame }
    });
    packets.collect()
}

/// Both sides on a capture: on the whole, and after each of its first frames.
#[track_caller]
pub fn capture_agrees(file: &Path, inside: IpAddr) -> Knowledge {
    let packets = packets(file, inside);
    let mut rig = Rig::get();
    for so_far in 1..packets.len().min(150) {
        if let Err(why) = compare(&mut rig, &packets[..so_far]) {
            panic!("kernel and host differ after frame {so_far}, {:?}: {why}", packets[so_far - 1]);
        }
    }
    agree(&mut rig, &packets, || file.display().to_string())
}

#[test]
fn kernel_and_host_agree_on_a_real_transfer_with_loss() {
    let loss = Random::seeded(7).loss(0.03).duplication(0.01).data_only();
    let world = Gateway::plan().client_side(loss).build();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let capture = Capture::start(&world.gateway, OUTSIDE.interface, "tcp");
    let mut conn = connect(&world.client, (SERVER.v4, 443));
    conn.send(400_000);
    conn.receive(400_000);
    conn.close();
    eventually(harness::tcp::DEADLINE, "the connection is closed on both sides", || {
        if server.finished().len() == 1 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let frames = world.client_box().log().arrived(Direction::ToServer).count();
    capture.eventually_packets(frames, harness::tcp::DEADLINE);
    let known = capture_agrees(capture.file(), SERVER.v4.into());
    let payload: u64 = known.totals.iter().map(|t| t[Traffic::PayloadBytes.place(Side::Client, 0)]).sum();
    assert!(payload >= 380_000, "{payload} bytes of the client's");
    assert!(known.records.len() > 5, "{} records", known.records.len());
}
