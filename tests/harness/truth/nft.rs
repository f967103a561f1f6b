//! nftables in a namespace: rules that drop, and counters that witness.

use std::time::Duration;

use serde_json::Value;

use crate::command;
use crate::eventually::eventually;
use crate::netns::NetNs;

/// A table of rules in a namespace, with its named counters. It goes with the namespace.
pub struct Nft<'a> {
    namespace: &'a NetNs,
    table: String,
}

impl<'a> Nft<'a> {
    /// Loads the body of an `inet` table. A closing brace stands on a line of its own, or nft refuses it.
    ///
    /// ```text
    /// counter resets { }
    /// chain out {
    ///     type filter hook output priority 0;
    ///     tcp flags & rst == rst counter name resets drop
    /// }
    /// ```
    #[track_caller]
    pub fn load(namespace: &'a NetNs, table: &str, body: &str) -> Self {
        let mut command = namespace.cmd("nft");
        command.args(["-f", "-"]);
        command::run(command, &format!("table inet {table} {{\n{body}\n}}\n"));
        Self { namespace, table: table.to_owned() }
    }

    /// Keeps the kernel of this namespace from answering segments of a connection that a test plays by hand: no TCP from
    /// or to this port reaches it or leaves it. Raw ports still see everything.
    #[track_caller]
    pub fn silence(namespace: &'a NetNs, port: u16) -> Self {
        let body = ["input", "output"].map(|hook| {
            format!(
                "chain {hook} {{\n type filter hook {hook} priority 0;\n \
                 tcp sport {port} counter name silenced drop\n tcp dport {port} counter name silenced drop\n}}"
            )
        });
        Self::load(
            namespace,
            &format!("silence_{port}"),
            &format!("counter silenced {{\n}}\n{}", body.join("\n")),
        )
    }

    /// Packets and bytes of a named counter.
    ///
    /// # Panics
    /// When the table has none of that name.
    #[track_caller]
    pub fn counter(&self, name: &str) -> (u64, u64) {
        let text = self.namespace.exec("nft -j list counters");
        let parsed: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("nft -j said {text}: {error}"));
        let all = parsed["nftables"].as_array().into_iter().flatten().map(|entry| &entry["counter"]);
        let mut ours =
            all.filter(|counter| counter["table"] == self.table.as_str() && counter["name"] == name);
        let counter = ours.next().unwrap_or_else(|| panic!("no counter {name} in the table {}", self.table));
        let value = |key: &str| counter[key].as_u64().expect("counters are numbers");
        (value("packets"), value("bytes"))
    }

    /// Waits until a named counter has counted at least so many packets.
    #[track_caller]
    pub fn eventually_packets(&self, name: &str, packets: u64, deadline: Duration) {
        eventually(deadline, &format!("{packets} packets in the counter {name}"), || {
            let (now, _) = self.counter(name);
            if now >= packets { Ok(()) } else { Err(format!("{now} so far")) }
        });
    }
}
