//! A receiver of webhooks: it keeps what is posted to it, and can be as bad as receivers are.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::NetNs;
use crate::tcp::{Conn, Service};

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Keeps it and answers 200.
    Takes,
    /// Answers with this status and keeps nothing.
    Refuses(u16),
    /// Never answers.
    Hangs,
    /// Answers 200, a byte at a time with this pause after each, and keeps it if the last one was taken.
    IsSlow(Duration),
}

/// One request that was taken.
#[derive(Clone, Debug)]
pub struct Post {
    /// When it had come.
    pub at: Instant,
    /// What it said.
    pub body: Value,
}

/// The receiver, on loopback of a namespace.
pub struct Hook {
    service: Service,
    shared: Arc<Shared>,
}

struct Shared {
    mood: Mutex<Mood>,
    posts: Mutex<Vec<Post>>,
}

impl Hook {
    /// Listens.
    #[track_caller]
    pub fn start(namespace: &NetNs, mood: Mood) -> Self {
        let shared = Arc::new(Shared { mood: Mutex::new(mood), posts: Mutex::default() });
        let of = shared.clone();
        let serve = move |mut conn: Conn| while answer(&mut conn, &of).is_some() {};
        let service = Service::start(namespace, (Ipv4Addr::LOCALHOST, 0), |_| Ok(()), serve);
        Self { service, shared }
    }

    /// Where to post to.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.service.address())
    }

    /// Its host and port.
    pub fn place(&self) -> String {
        self.service.address().to_string()
    }

    /// Changes what it does with the next request.
    pub fn becomes(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// All that was taken so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.posts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers one request; none when the connection is over.
fn answer(conn: &mut Conn, shared: &Shared) -> Option<()> {
    let body = request(conn)?;
    let at = Instant::now();
    let keep = || {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        shared.posts.lock().unwrap_or_else(PoisonError::into_inner).push(Post { at, body });
    };
    let mood = *shared.mood.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |status: u16| format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
    match mood {
        Mood::Takes => {
            keep();
            conn.send_bytes(text(200).as_bytes()).ok()
        }
        Mood::Refuses(status) => conn.send_bytes(text(status).as_bytes()).ok(),
        Mood::Hangs => {
            // Until the other side gives up.
            while conn.receive_bytes(&mut [0; 64]).is_ok_and(|got| got > 0) {}
            None
        }
        Mood::IsSlow(pause) => {
            for byte in text(200).bytes() {
                conn.send_bytes(&[byte]).ok()?;
                thread::park_timeout(pause);
            }
            keep();
            Some(())
        }
    }
}

/// The body of the next request.
fn request(conn: &mut Conn) -> Option<Vec<u8>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if text.len() >= whole {
                return Some(text[end + 4..whole].to_vec());
            }
        }
        match conn.receive_bytes(&mut buffer) {
            Ok(got) if got > 0 => text.extend_from_slice(&buffer[..got]),
            _ => return None,
        }
    }
}
