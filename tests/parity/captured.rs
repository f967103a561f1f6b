//! What a real kernel sent, with loss: the same capture through both sides, compared after every frame.
//!
//! The captures of the end-to-end tests are compared where they are made, by [`harness::agent`]; here are those of
//! `tests/captures`, by which accuracy is measured, and of any directory that `FIVETUPLE_CAPTURES` names.

use std::path::{Path, PathBuf};

use agent::replay::file::Capture as File;
use agent_ebpf::label::Side;
use agent_ebpf::traffic::Traffic;
use agent_ebpf::wire::Link;
use harness::impair::Direction;
use harness::impair::rules::Random;
use harness::parity::captured::{capture_agrees, packets};
use harness::parity::rig::{Rig, compare};
use harness::script::Timed;
use harness::tcp::{Serve, Server, connect};
use harness::topology::{OUTSIDE, SERVER};
use harness::truth::Capture;
use harness::{Gateway, eventually};

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
    let captured = capture.stop();
    let first = packets(captured.clone(), OUTSIDE.mac);
    for so_far in 1..first.len().min(150) {
        if let Err(why) = compare(&mut Rig::get(), &first[..so_far]) {
            panic!("kernel and host differ after frame {so_far}, {:?}: {why}", first[so_far - 1]);
        }
    }
    let known = capture_agrees(captured, OUTSIDE.mac);
    let payload: u64 = known.totals.iter().map(|t| t[Traffic::PayloadBytes.place(Side::Client, 0)]).sum();
    assert!(payload >= 380_000, "{payload} bytes of the client's");
    assert!(known.records.len() > 5, "{} records", known.records.len());
}

/// The captures below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut found: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    found.sort();
    let (directories, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|path| path.is_dir());
    found.retain(|path| {
        path.to_string_lossy().contains(".pcap") && !path.to_string_lossy().contains(".jsonl")
    });
    found.extend(directories.iter().flat_map(|directory| files(directory)));
    found
}

/// The Ethernet frames of a capture, as long as they were on the wire.
fn frames(file: &Path) -> Vec<Timed> {
    let mut capture = File::open(file).unwrap_or_else(|error| panic!("{error:#}"));
    let mut frames = Vec::new();
    while let Some(packet) = capture.next() {
        // What cannot be read is replay's to tell.
        let Ok(packet) = packet else { continue };
        if packet.link == Link::Ethernet && packet.bytes.len() >= 14 {
            let mut frame = packet.bytes.to_vec();
            // A damaged record may claim any length; no IP datagram has more.
            frame.resize(frame.len().max((packet.wire_len as usize).min(14 + 65_535)), 0);
            frames.push(Timed { at: packet.at.0, frame });
        }
    }
    frames
}

#[test]
fn kernel_and_host_agree_on_the_captures_of_the_accuracy_benchmark() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")];
    directories.extend(std::env::var_os("FIVETUPLE_CAPTURES").map(PathBuf::from));
    let (mut captures, mut packets) = (0, 0);
    for file in directories.iter().flat_map(|directory| files(directory)) {
        let frames = frames(&file);
        let Some(first) = frames.first() else { continue };
        let mac = first.frame[6..12].try_into().expect("six bytes");
        (captures, packets) = (captures + 1, packets + frames.len());
        println!("{} ({} frames)", file.display(), frames.len());
        capture_agrees(frames, mac);
    }
    println!("{captures} captures, {packets} frames");
    assert!(captures >= 20 && packets >= 5_000, "{captures} captures with {packets} frames");
}
