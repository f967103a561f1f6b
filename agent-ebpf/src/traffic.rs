//! Ordinary counts, one row each: what passed, what opened, what closed.

use crate::{
    counter::{TRAFFIC_BASE, counters},
    label::labels,
};

labels! {
    /// How a connection came to be known.
    Opened("by") {
        Syn = "syn": "its SYN passed this point",
        JoinedLate = "joined_late": "met mid-way; client and server are inferred",
    }
}

labels! {
    /// How a connection ended.
    Close("close") {
        FinClient = "fin_client": "both sides sent FIN, the client first (it holds TIME-WAIT)",
        FinServer = "fin_server": "both sides sent FIN, the server first (it holds TIME-WAIT)",
        ResetClient = "rst_client": "the client sent RST",
        ResetServer = "rst_server": "the server sent RST",
        HalfFinClient = "half_fin_client": "only the client sent FIN, then silence",
        HalfFinServer = "half_fin_server": "only the server sent FIN, then silence",
        Silence = "silence": "nothing came any more",
        HandshakeSilence = "handshake_silence": "the handshake never completed",
        Replaced = "replaced": "a new connection took the five-tuple while this one was open",
    }
}

labels! {
    /// What a connection came to, for those who use the service.
    Served("result") {
        Answered = "answered": "the client asked, and nothing it asked was without an answer when it ended",
        Unanswered = "unanswered": "a request had no answer when it ended, without an RST that cut it off",
        Reset = "reset": "an RST cut it off: one of the server, or the client's own while it waited",
        Refused = "refused": "its SYN was answered by an RST",
        TimedOut = "timed_out": "the handshake never completed, or repeats went unanswered until an end gave up",
        Unused = "unused": "the client asked nothing: health checks, scanners, servers that speak first",
    }
}

counters! {
    /// What a point counts of healthy traffic.
    Traffic at TRAFFIC_BASE => {
        Segments = "segments" []: "TCP segments on the wire; a GSO super-packet counts as all its segments.",
        Bytes = "bytes" []: "Bytes of TCP's IP datagrams on the wire, IP and TCP headers included.",
        PayloadBytes = "payload_bytes" []: "Payload bytes of TCP segments, repeats included.",
        Opened = "connections_opened" [Opened]: "Connections met, by how; the side is the one that sent the first packet.",
        Established = "connections_established" []: "Handshakes completed, seen from SYN to the last ACK; the side is the client.",
        Served = "connection_results" [Served]: "Connections ended, by what they came to for the client.",
        Closed = "connections_closed" [Close]: "Connections ended, by how; the side is the one that ended it (first FIN, RST or silence).",
    }
}
