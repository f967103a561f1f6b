//! One line of tshark's output: the outermost TCP header of a packet, and what tshark says of it.

use anyhow::{Context as _, Result};

use crate::accuracy::{
    label::Labels,
    line::Packet,
    wire::{RST, SYN},
};

/// What is asked of tshark before the labels; [`Row::read`] takes them by these places.
const HEADER: [&str; 16] = [
    "frame.number",
    "frame.time_epoch",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq_raw",
    "tcp.len",
    "tcp.stream",
    "tcp.analysis.initial_rtt",
    "tcp.hdr_len",
    "tcp.options",
];
/// Labels that are tshark's own; RST and SYN retransmissions follow from the flags.
const LABELS: [&str; 12] = [
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.zero_window",
    "tcp.analysis.zero_window_probe",
    "tcp.analysis.window_full",
    "tcp.analysis.keep_alive",
    "tcp.analysis.reused_ports",
];

/// The layers below TCP that do not make it a tunnel.
const PLAIN: &str = " eth ethertype vlan ieee8021ad ieee8021ah sll null raw llc snap ppp pppoes chdlc fr loop frame pktap \
    pflog ip ipv6 ipv6.hopopts ipv6.routing ipv6.fraghdr ipv6.dstopts ah mpls tr wlan radiotap wlan_radio ppi prism \
    wlan_aggregate wlan_rsna_eapol fddi ipnet mpls_pwethheuristic pwethheuristic cmd sgt user_dlt vssmonitoring \
    ethertrailer macsec nsh_none cooked sll2 ";

/// Every field, in the order in which tshark prints them.
pub fn fields() -> Vec<&'static str> {
    HEADER.into_iter().chain(LABELS).collect()
}

/// A packet, and what only its flow needs.
pub struct Row {
    pub packet: Packet,
    /// Nanoseconds since 1970.
    pub at: i64,
    pub flags: u16,
    /// tshark's number of the connection.
    pub stream: u64,
    /// The handshake's round trip in nanoseconds, once tshark knows it.
    pub initial_rtt: Option<i64>,
}

impl Row {
    /// Reads a line; none if it is no TCP packet of its own (inside an ICMP error), or cut before the flags.
    pub fn read(line: &str) -> Option<Result<Self>> {
        let values: Vec<&str> = line.split('\t').collect();
        if values.len() != HEADER.len() + LABELS.len() {
            return None;
        }
        let value = |name: &str| {
            let place = HEADER.iter().position(|field| *field == name);
            values[place.expect("only fields of the list are asked for")]
        };
        let layers: Vec<&str> = value("frame.protocols").split(':').collect();
        let below = &layers[..layers.iter().position(|layer| *layer == "tcp")?];
        if below.iter().any(|layer| matches!(*layer, "icmp" | "icmpv6")) {
            return None;
        }
        let inner = below.iter().rev().find(|layer| matches!(**layer, "ip" | "ipv6"))?;
        let headers = |version: &str| below.iter().filter(|layer| **layer == version).count();
        let end = |side: &str| nth(value(&format!("{inner}.{side}")), headers(inner) - 1);
        let (src, dst) = (end("src")?, end("dst").unwrap_or_default());
        if ["tcp.srcport", "tcp.flags", "tcp.seq_raw"].iter().any(|field| value(field).is_empty()) {
            return None;
        }
        let packet = || {
            let number = |field: &str| number(value(field)).with_context(|| format!("{field} in {line:?}"));
            let flags = u16::try_from(number("tcp.flags")?.unwrap_or(0) & 0xfff)?;
            let labels = LABELS.iter().zip(&values[HEADER.len()..]).filter(|(_, said)| !said.is_empty());
            let mut labels: Vec<&str> =
                labels.map(|(label, _)| label.trim_start_matches("tcp.analysis.")).collect();
            if flags & RST != 0 {
                labels.push("rst");
            }
            if flags & SYN != 0 && labels.contains(&"retransmission") {
                labels.push("syn_retransmission");
            }
            let len = number("tcp.len")?;
            let options = value("tcp.options");
            let options_len = 2 * (number("tcp.hdr_len")?.unwrap_or(20).saturating_sub(20));
            let packet = Packet {
                frame: number("frame.number")?.context("a packet without a number")?,
                src: Some(src.to_owned()),
                sport: number("tcp.srcport")?.and_then(|port| u16::try_from(port).ok()),
                dst: Some(dst.to_owned()),
                dport: number("tcp.dstport")?.and_then(|port| u16::try_from(port).ok()),
                seq: number("tcp.seq_raw")?.and_then(|seq| u32::try_from(seq).ok()),
                len,
                labels: Labels::of(labels),
                tunnel: headers("ip") + headers("ipv6") > 1
                    || below.iter().any(|layer| !PLAIN.contains(&format!(" {layer} "))),
                frag: len.is_none(),
                // tshark says nothing at all of a packet whose options are cut.
                cut: (nth(options, 0).unwrap_or_default().len() as u64) < options_len
                    || options == "<MISSING>",
                ..Packet::default()
            };
            Ok(Self {
                packet,
                at: nanoseconds(value("frame.time_epoch"))?,
                flags,
                stream: number("tcp.stream")?.context("a packet without a connection")?,
                initial_rtt: nth(value("tcp.analysis.initial_rtt"), 0).map(nanoseconds).transpose()?,
            })
        };
        Some(packet())
    }
}

/// One of several values, outermost header first.
fn nth(values: &str, n: usize) -> Option<&str> {
    if values.is_empty() { None } else { values.split(',').nth(n) }
}

/// The first value as a number, decimal or with 0x.
fn number(values: &str) -> Result<Option<u64>> {
    let Some(text) = nth(values, 0).filter(|text| !text.is_empty()) else { return Ok(None) };
    Ok(Some(match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16)?,
        None => text.parse()?,
    }))
}

/// Seconds with a fraction, as whole nanoseconds.
fn nanoseconds(text: &str) -> Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<9.9}");
    let parse =
        || Ok::<i64, std::num::ParseIntError>(whole.parse::<i64>()? * 1_000_000_000 + digits.parse::<i64>()?);
    parse().with_context(|| format!("the time {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        assert_eq!(nanoseconds("1795296724.747537110").unwrap(), 1_795_296_724_747_537_110);
        assert_eq!(nanoseconds("0.5").unwrap(), 500_000_000);
        assert_eq!(nanoseconds("12").unwrap(), 12_000_000_000);
        assert!(nanoseconds("soon").is_err());
    }

    #[test]
    fn the_right_one_of_many_values_is_taken() {
        assert_eq!((nth("a,b", 1), nth("a", 1), nth("", 0)), (Some("b"), None, None));
        assert_eq!(
            (number("0x0012,7").unwrap(), number("12").unwrap(), number("").unwrap()),
            (Some(18), Some(12), None)
        );
    }
}
