//! One line of the benchmark's JSON Lines, and a file of them.
//!
//! A reference (truth, or what another tool says) and a candidate have the same form: `meta`, `packet` and `flow`
//! lines, told apart by `t`. Packets have few fields and are many, so they are read into a struct; flows are compared
//! field by field by name, so they stay JSON.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::label::Labels;

/// All that a file says of one capture.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What the file says of itself.
    pub meta: Meta,
    /// By frame number.
    pub packets: BTreeMap<u64, Packet>,
    /// In the order of their first packets.
    pub flows: Vec<Flow>,
}

/// A `flow` line.
pub type Flow = Map<String, Value>;

/// A `meta` line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Only these classes are judged; all, if there are none.
    pub classes: Option<Vec<String>>,
    /// Packets that are absent have no label.
    pub sparse: bool,
}

/// A `packet` line: what is compared, and what is shown where two files disagree.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Packet {
    /// The record's number in the file, from 1.
    pub frame: u64,
    /// Sender's address.
    pub src: Option<String>,
    /// Sender's port.
    pub sport: Option<u16>,
    /// Receiver's address.
    pub dst: Option<String>,
    /// Receiver's port.
    pub dport: Option<u16>,
    /// Number of its flow.
    pub flow: u64,
    /// TCP sequence number as on the wire.
    pub seq: Option<u32>,
    /// Payload in bytes; none for a fragment.
    pub len: Option<u64>,
    /// What the packet was judged to be.
    #[serde(rename = "analysis")]
    pub labels: Labels,
    /// Inside another IP header, GRE, VXLAN and the like.
    pub tunnel: bool,
    /// A piece of an IP datagram.
    pub frag: bool,
    /// Cut inside the TCP options.
    pub cut: bool,
    /// Truth only: sent again, and yet in order here, because the first copy never came by.
    pub hidden: bool,
    /// Truth only: neither host sent it.
    pub injected: bool,
    /// Candidate only: the verdict in fivetuple's own words.
    pub verdict: Option<String>,
    /// Candidate only: what decided the verdict.
    pub evidence: Option<String>,
}

impl Lines {
    /// Reads a file, which may be compressed.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&text(path)?).with_context(|| path.display().to_string())
    }

    /// Reads what a file holds.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Self::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            lines.add(line).with_context(|| format!("line {}", at + 1))?;
        }
        Ok(lines)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Kind {
            t: String,
        }
        let Kind { t } = serde_json::from_str(line)?;
        match t.as_str() {
            "meta" => self.meta = serde_json::from_str(line)?,
            "flow" => self.flows.push(serde_json::from_str(line)?),
            "packet" => {
                let packet: Packet = serde_json::from_str(line)?;
                self.packets.insert(packet.frame, packet);
            }
            other => bail!("a line of kind {other:?}, which the schema does not have"),
        }
        Ok(())
    }

    /// Only the packets that `keep` accepts, and no flows.
    pub fn only(&self, keep: impl Fn(u64, &Packet) -> bool) -> Self {
        let kept = self.packets.iter().filter(|(frame, packet)| keep(**frame, packet));
        let packets = kept.map(|(frame, packet)| (*frame, packet.clone())).collect();
        Self { meta: self.meta.clone(), packets, flows: Vec::new() }
    }
}

/// A text file, compressed or not.
pub fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?).with_context(|| path.display().to_string())
}

/// A file, compressed or not.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let raw = fs::read(path).with_context(|| path.display().to_string())?;
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let mut bytes = Vec::new();
    let unpacked = MultiGzDecoder::new(raw.as_slice()).read_to_end(&mut bytes);
    unpacked.with_context(|| format!("{}: cannot unpack", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_kind_are_read() {
        let text = "{\"t\": \"meta\", \"source\": \"x\", \"classes\": [\"rst\"], \"sparse\": true}\n\n\
            {\"t\":\"packet\",\"frame\":7,\"seq\":9,\"len\":null,\"analysis\":[\"rst\"],\"hidden\":true}\n\
            {\"t\":\"flow\",\"first_frame\":7}\n";
        let lines = Lines::parse(text).unwrap();
        assert_eq!((lines.meta.classes, lines.meta.sparse), (Some(vec!["rst".to_owned()]), true));
        let packet = &lines.packets[&7];
        assert_eq!((packet.seq, packet.len, packet.hidden), (Some(9), None, true));
        assert!(packet.labels.has("rst") && !packet.tunnel);
        assert_eq!(lines.flows[0]["first_frame"], 7);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let err = format!("{:#}", Lines::parse("{\"t\":\"meta\"}\n{\"t\":\"pakcet\"}\n").unwrap_err());
        assert!(err.contains("line 2") && err.contains("pakcet"), "{err}");
    }
}
