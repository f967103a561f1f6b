//! Who refuses: the server, or something before it that answers in its name.

use std::io::ErrorKind;
use std::net::IpAddr;

use harness::Gateway;
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER, Version};
use harness::truth::Nft;

use crate::watch::{eventually_exactly, exactly, watch};

fn refuses(world: &Gateway, server: IpAddr, port: u16) {
    let client: IpAddr = if server.is_ipv4() { CLIENT.v4.into() } else { CLIENT.v6.into() };
    let tried = Dial::default().from((client, 0)).try_connect(&world.client, (server, port));
    assert_eq!(tried.expect_err("nobody takes it").kind(), ErrorKind::ConnectionRefused);
}

/// A firewall that rejects with an RST is nearer than the server, which the SYN-ACKs of the server have shown.
#[test]
fn a_firewall_that_refuses_is_told_from_the_server() {
    let world = Gateway::plan().patient().build();
    let agent = watch(&world, "");
    let _firewall = Nft::load(
        &world.gateway,
        "firewall",
        "chain forward {\n type filter hook forward priority 0;\n tcp dport 82 reject with tcp reset\n}",
    );
    let addresses = [Version::V4, Version::V6].map(|version| SERVER.ip(version));
    for address in addresses {
        let server = Server::start(&world.server, (address, 443), Serve::Echo);
        for _ in 0..3 {
            let mut conn = tcp::connect(&world.client, server.address());
            tcp::echo(&mut conn, 10);
        }
        refuses(&world, address, 81);
        refuses(&world, address, 82);
    }
    let by_the_server: &[(&str, &str)] = &[("from", "server"), ("cause", "refused"), ("origin", "endpoint")];
    eventually_exactly(&agent, "resets_total", &[("origin", "endpoint")], &[(by_the_server, 2)]);
    // What the firewall refuses the inner point never sees.
    let metrics = agent.metrics();
    let before_it = |point| {
        let labels = [("point", point), ("from", "server"), ("cause", "refused"), ("origin", "middlebox")];
        metrics.sum("fivetuple_tcp_resets_total", &labels)
    };
    assert_eq!((before_it("outside"), before_it("inside")), (2.0, 0.0));
    exactly(&agent, "five_tuple_reuses_total", &[], &[]);
    agent.stop();
}
