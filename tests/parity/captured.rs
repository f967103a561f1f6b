//! What a real kernel sent, with loss: the same capture through both sides, compared after every frame.
//!
//! The captures of the end-to-end tests are compared where they are made, by [`harness::agent`].

use agent_ebpf::label::Side;
use agent_ebpf::traffic::Traffic;
use harness::impair::Direction;
use harness::impair::rules::Random;
use harness::parity::captured::{capture_agrees, packets};
use harness::parity::rig::{Rig, compare};
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
