//! As much of HTTP/1.1 as the cases speak: one request and one answer on a connection.

use std::io;

use crate::tcp::Conn;

/// A request as it was received.
pub(super) struct Request {
    /// The path in its first line.
    pub path: String,
    /// All of it, head and body.
    pub bytes: Vec<u8>,
}

/// A POST of exactly so many bytes, head included.
pub(super) fn post(host: &str, path: &str, total: usize) -> Vec<u8> {
    let head = |length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length:05}\r\nConnection: close\r\n\r\n"
        )
    };
    let body = total.checked_sub(head(0).len()).expect("a request has room for its head");
    let mut bytes = head(body).into_bytes();
    bytes.resize(total, b'7');
    bytes
}

/// The answer that all is well.
pub(super) fn ok(body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (head + body).into_bytes()
}

/// Reads one request to the end of its body; none when the connection ended before.
pub(super) fn read(conn: &Conn) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 14];
    while length(&bytes).is_none_or(|length| bytes.len() < length) {
        match conn.receive_bytes(&mut buffer)? {
            0 => return Ok(None),
            got => bytes.extend_from_slice(&buffer[..got]),
        }
    }
    let line = String::from_utf8_lossy(bytes.split(|&byte| byte == b'\r').next().unwrap_or_default());
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some(Request { path, bytes }))
}

/// How long a request is that begins like this, head and body; none while its head is not complete.
pub(super) fn length(start: &[u8]) -> Option<usize> {
    let end = start.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&start[..end]).ok()?;
    let mut lengths =
        head.lines().filter_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    Some(end + lengths.next().unwrap_or(0))
}
