//! What HTTP in the clear says at the beginning of requests and answers (RFC 9112): which method and path, how long, and
//! with which status. Of services whose operator asks for it; never a query, a header's value but a length, or a body.

use crate::aggregate::rows::Sight;
use agent_ebpf::{
    flow::{FlowKey, FlowKey4, FlowKey6},
    label::Side,
    record::{Head, TextRecord},
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};

/// Connections whose texts are kept.
const KEPT: usize = 32_768;
/// Characters of a path that are kept.
const PATH: usize = 200;

/// The last request of a connection, and its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// The method.
    pub method: Option<String>,
    /// The path, without its query; what is not printable ASCII in it is a `?`.
    pub path: Option<String>,
    /// Bytes of the request's body, by its `Content-Length`.
    pub request_length: Option<u64>,
    /// The status of the answer; none where none came: the capture tools' "status 0".
    pub status: Option<u16>,
    /// Bytes of the answer's body, by its `Content-Length`.
    pub response_length: Option<u64>,
}

impl Http {
    fn ask(text: &[u8]) -> Option<Self> {
        let (line, headers) = split(text);
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_method = (3..=16).contains(&method.len()) && method.iter().all(u8::is_ascii_uppercase);
        let is_http = words.next().is_none_or(|version| {
            version.is_empty() || b"HTTP/1.".starts_with(&version[..version.len().min(7)])
        });
        if !is_method || !is_http || target.is_empty() {
            return None;
        }
        let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        Some(Self {
            method: Some(String::from_utf8_lossy(method).into_owned()),
            path: Some(path.iter().take(PATH).map(shown).collect()),
            request_length: length(headers),
            ..Self::default()
        })
    }

    /// What came so far is no answer yet (RFC 9110, 15.2).
    fn is_interim(&self) -> bool {
        self.status.is_some_and(|status| (100..200).contains(&status))
    }

    fn answer(&mut self, text: &[u8]) {
        let (line, headers) = split(text);
        let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if status.is_some() {
            (self.status, self.response_length) = (status, length(headers));
        }
    }
}

/// The first line, and the headers as far as they are there.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let line = &text[..end];
    (line.strip_suffix(b"\r").unwrap_or(line), text.get(end + 1..).unwrap_or_default())
}

/// `Content-Length`, where its whole line is there.
fn length(headers: &[u8]) -> Option<u64> {
    // What is cut off behind the last line may be a number's second half.
    let whole = headers.iter().rposition(|byte| *byte == b'\n')?;
    headers[..whole].split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty()).find_map(
        |line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let named = line[..colon].eq_ignore_ascii_case(b"content-length");
            named.then(|| std::str::from_utf8(line[colon + 1..].trim_ascii()).ok()?.parse().ok())?
        },
    )
}

/// What no two connections at a point have in common: the key, and the first packet.
pub type Life = (FlowKey, u64);

/// Whose life a sight is of.
pub fn life(sight: &Sight) -> Life {
    (sight.key, sight.flow.opened.0)
}

/// The texts of connections, of open ones by their keys.
#[derive(Debug, Default)]
pub struct Texts {
    open: HashMap<FlowKey, Http>,
    ended: HashMap<Life, Http>,
    order: VecDeque<Life>,
}

impl Texts {
    /// Takes how a request or an answer begins.
    pub fn take(&mut self, record: &TextRecord) {
        let key = key(&record.head);
        if record.from == Side::Client as u32 {
            match Http::ask(record.text()) {
                Some(http) => {
                    if self.open.len() >= KEPT && !self.open.contains_key(&key) {
                        // Ends were lost, or there are more connections than can be told of: begin anew.
                        self.open.clear();
                    }
                    self.open.insert(key, http);
                }
                // The body, which waited for leave to come (RFC 9110, 10.1.1): the answer is still to come.
                None => match self.open.get_mut(&key) {
                    Some(http) if http.is_interim() => http.status = None,
                    _ => _ = self.open.remove(&key),
                },
            }
        } else if let Some(http) = self.open.get_mut(&key) {
            http.answer(record.text());
        }
    }

    /// A connection ended.
    pub fn end(&mut self, sight: &Sight) {
        let Some(http) = self.open.remove(&sight.key) else { return };
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended.insert(life(sight), http);
        self.order.push_back(life(sight));
    }

    /// Forgets all of some points.
    pub fn forget_points(&mut self, is_one: impl Fn(u8) -> bool) {
        self.open.retain(|key, _| !is_one(key.point()));
        self.ended.retain(|(key, _), _| !is_one(key.point()));
        self.order.retain(|(key, _)| !is_one(key.point()));
    }

    /// The last words of a connection.
    pub fn of(&self, sight: &Sight) -> Option<&Http> {
        let ended = self.ended.get(&life(sight));
        ended.or_else(|| self.open.get(&sight.key).filter(|_| sight.flow.close == 0))
    }
}

/// The key of a record's connection.
fn key(head: &Head) -> FlowKey {
    let (ports, scope) =
        ([head.client_port, head.server_port], u32::from(head.point) << 24 | head.vlans & 0x00ff_ffff);
    let mapped = |addr: &agent_ebpf::wire::Addr| addr.0[..3] == agent_ebpf::wire::Addr::v4([0; 4]).0[..3];
    if mapped(&head.client) && mapped(&head.server) {
        FlowKey::V4(FlowKey4::between(head.client.0[3], head.server.0[3], ports, scope).0)
    } else {
        FlowKey::V6(FlowKey6::between(head.client, head.server, ports, scope).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::{flow::Flow, scoreboard::Counts, time::Nanos, wire::Addr};

    fn said(from: Side, text: &str) -> TextRecord {
        let head = Head {
            client: Addr::v4([192, 0, 2, 1]),
            server: Addr::v4([198, 51, 100, 7]),
            client_port: 40_000,
            server_port: 80,
            ..Head::default()
        };
        let mut record =
            TextRecord { head, len: text.len().min(256) as u32, from: from as u32, bytes: [0; 256] };
        record.bytes[..record.len as usize].copy_from_slice(&text.as_bytes()[..record.len as usize]);
        record
    }

    fn sight(record: &TextRecord, opened: u64, close: u8) -> Sight {
        let flow = Flow { opened: Nanos(opened), close, ..Flow::default() };
        Sight { key: key(&record.head), flow, counts: [Counts::default(); 2] }
    }

    fn heard(said_: &[(Side, &str)]) -> Option<Http> {
        let mut texts = Texts::default();
        for (from, text) in said_ {
            texts.take(&said(*from, text));
        }
        texts.of(&sight(&said(Side::Client, ""), 1, 0)).cloned()
    }

    #[test]
    fn method_path_lengths_and_status_and_nothing_else() {
        let http = heard(&[
            (
                Side::Client,
                "POST /top-up/17?card=4711 HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 10180\r\n\r\nsecret",
            ),
            (Side::Server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ]);
        let want = Http {
            method: Some("POST".into()),
            path: Some("/top-up/17".into()),
            request_length: Some(10_180),
            status: Some(200),
            response_length: Some(2),
        };
        assert_eq!(http, Some(want));
        let unanswered = heard(&[(Side::Client, "GET /a\u{7f}b HTTP/1.0\r\n\r\n")]).unwrap();
        assert_eq!((unanswered.path.as_deref(), unanswered.status), (Some("/a?b"), None));
    }

    #[test]
    fn what_is_no_request_is_nothing() {
        for text in [
            "",
            "GET",
            "get / HTTP/1.1\r\n",
            "\u{16}\u{3}\u{1}  ",
            "POST / SMTP\r\n",
            "AAAAAAAAAAAAAAAAAAAAA / HTTP/1.1",
        ] {
            assert_eq!(heard(&[(Side::Client, text)]), None, "{text:?}");
        }
        assert_eq!(heard(&[(Side::Server, "HTTP/1.1 200 OK\r\n\r\n")]), None, "nobody asked");
        let cut = heard(&[(Side::Client, "PUT / HTTP/1.1\r\nContent-Length: 101")]).unwrap();
        assert_eq!(cut.request_length, None, "the number may go on");
    }

    #[test]
    fn a_body_that_waited_for_leave_belongs_to_its_request() {
        let asked = [
            (Side::Client, "POST /pay HTTP/1.1\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n"),
            (Side::Server, "HTTP/1.1 100 Continue\r\n\r\n"),
            (Side::Client, "amount"),
            (Side::Server, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
        ];
        let of = |n: usize| heard(&asked[..n]).map(|http| (http.path.unwrap(), http.status));
        assert_eq!(of(2), Some(("/pay".to_owned(), Some(100))));
        assert_eq!(of(3), Some(("/pay".to_owned(), None)), "no answer yet");
        assert_eq!(of(4), Some(("/pay".to_owned(), Some(201))));
    }

    #[test]
    fn each_connection_keeps_its_own_last_words() {
        let mut texts = Texts::default();
        let first = said(Side::Client, "GET /one HTTP/1.1\r\n\r\n");
        texts.take(&first);
        let old = sight(&first, 1, 3);
        texts.end(&old);
        assert_eq!(texts.of(&sight(&first, 2, 0)), None, "the next connection on its five-tuple");
        texts.take(&said(Side::Client, "GET /two HTTP/1.1\r\n\r\n"));
        assert_eq!(texts.of(&old).unwrap().path.as_deref(), Some("/one"));
        assert_eq!(texts.of(&sight(&first, 2, 0)).unwrap().path.as_deref(), Some("/two"));
    }
}
