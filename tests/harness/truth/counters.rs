//! The kernel's counters of one namespace: `/proc/net/snmp` and `/proc/net/netstat`, under the names that nstat uses.

use std::collections::BTreeMap;
use std::fs;

use crate::netns::NetNs;

/// All counters at one moment, or what they grew by between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// Reads them in the namespace.
    #[track_caller]
    pub fn of(namespace: &NetNs) -> Self {
        let texts = namespace.run(|| {
            ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"].map(|path| {
                fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
            })
        });
        Self::parse(&texts.concat())
    }

    /// Reads the two-line tables of these files: a line of names, then a line of values.
    fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let mut all = BTreeMap::new();
        for pair in lines.chunks_exact(2) {
            let group = pair[0].split(':').next().unwrap_or_default();
            for (name, value) in pair[0].split_whitespace().zip(pair[1].split_whitespace()).skip(1) {
                all.insert(format!("{group}{name}"), value.parse().unwrap_or_default());
            }
        }
        Self(all)
    }

    /// One counter by its nstat name: `TcpRetransSegs`, `TcpExtTCPTimeouts`, `TcpExtTW`, `IpForwDatagrams`.
    ///
    /// # Panics
    /// When the kernel has none of that name.
    #[track_caller]
    pub fn get(&self, name: &str) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the kernel has no counter {name}"))
    }

    /// What each has grown by since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown =
            self.0.iter().map(|(name, now)| (name.clone(), now - before.0.get(name).copied().unwrap_or(0)));
        Self(grown.collect())
    }
}
