//! The WAF: a transparent proxy that takes what arrived out of order for an attack, and says so to nobody.
//!
//! It is real: it accepts connections to the card server's own address, acknowledges every byte, and opens a
//! connection of its own to the card server, with the client's address and port. It asks its own kernel (TCP_INFO)
//! whether a request arrived out of order.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cases::http;
use crate::netns::NetNs;
use crate::tcp::{Conn, Dial, Service};

/// How long a connection with a swallowed request stays open.
const SILENCE: Duration = Duration::from_millis(30);

/// A running WAF.
pub(super) struct Waf {
    swallowed: Arc<Mutex<Vec<u16>>>,
    _service: Service,
}

impl Waf {
    /// Stands in for the server at this address in a namespace to which the address is routed.
    #[track_caller]
    pub fn start(namespace: &NetNs, server: SocketAddrV4) -> Self {
        let swallowed = Arc::<Mutex<Vec<u16>>>::default();
        let note = swallowed.clone();
        let service = Service::start(
            namespace,
            server,
            |listener| listener.set_ip_transparent_v4(true),
            move |client| {
                // What breaks on either side ends both: the client sees a connection without an answer.
                let _ = serve(&client, server, &note);
            },
        );
        Self { swallowed, _service: service }
    }

    /// The client's ports whose requests it swallowed.
    pub fn swallowed(&self) -> Vec<u16> {
        self.swallowed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(client: &Conn, server: SocketAddrV4, swallowed: &Mutex<Vec<u16>>) -> io::Result<()> {
    let Some(request) = http::read(client)? else { return Ok(()) };
    let from: SocketAddr = client.peer();
    let mut buffer = [0; 4096];
    if client.info().rcv_ooopack > 0 {
        swallowed.lock().unwrap_or_else(PoisonError::into_inner).push(from.port());
        client.socket().set_read_timeout(Some(SILENCE))?;
        // Either the client gives up, or the time does.
        let _ = client.receive_bytes(&mut buffer);
        return Ok(());
    }
    let upstream = Dial::default().transparent().from(from).try_connect_here(server)?;
    upstream.send_bytes(&request.bytes)?;
    loop {
        match upstream.receive_bytes(&mut buffer)? {
            0 => return Ok(()),
            got => client.send_bytes(&buffer[..got])?,
        }
    }
}
