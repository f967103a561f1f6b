//! `fivetuple flows`: the flow list of a running agent, fetched over HTTP.

use crate::{
    api::{FlowList, FlowRow, HalfRow},
    cli::{FlowFilterArgs, FlowsArgs, Output},
    client::{self, Client},
};
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use std::io::Write as _;

/// Fetch and print.
pub fn flows(args: &FlowsArgs) -> Result<()> {
    let client = Client::of(&args.client)?;
    let body = client.ask(&args.url, "/api/v1/flows", &parameters(&args.filter))?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{body}")?,
        Output::Table => {
            let list: FlowList = client::parse(&body, &args.url, "a flow list")?;
            write!(out, "{}", render(&list))?;
        }
    }
    Ok(())
}

/// The filter as query parameters.
fn parameters(filter: &FlowFilterArgs) -> Vec<(&'static str, String)> {
    let FlowFilterArgs { svc, address, port, anomaly, limit } = filter;
    [
        ("svc", svc.clone()),
        ("address", address.clone()),
        ("port", port.map(|p| p.to_string())),
        ("anomaly", anomaly.clone()),
        ("limit", limit.map(|l| l.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

fn render(list: &FlowList) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "POINT",
        "SVC",
        "CLIENT",
        "SERVER",
        "PHASE",
        "AGE",
        "IDLE",
        "SENT",
        "ANSWERED",
        "RTT",
        "STATE",
        "ANOMALIES",
    ]);
    for index in [5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for flow in &list.flows {
        table.add_row(row(flow));
    }
    format!("{table}\n{} of {} flows\n", list.flows.len(), list.total)
}

fn row(flow: &FlowRow) -> [String; 12] {
    let client = format!("{}{}", flow.client, if flow.inferred { "?" } else { "" });
    [
        flow.point.clone(),
        flow.svc.clone(),
        client,
        flow.server.to_string(),
        flow.close.clone().unwrap_or_else(|| flow.phase.clone()),
        seconds(flow.age_seconds),
        seconds(flow.idle_seconds),
        flow.from_client.bytes.to_string(),
        flow.from_server.bytes.to_string(),
        flow.from_server.rtt_seconds.or(flow.from_client.rtt_seconds).map_or(String::new(), seconds),
        state(flow),
        anomalies(flow),
    ]
}

/// What is remarkable about the connection as a whole.
pub fn state(flow: &FlowRow) -> String {
    let mut words = Vec::new();
    if let Some(pending) = &flow.pending {
        let word = if pending.stalled { "stalled" } else { "waiting" };
        words.push(format!("{word} {} for {} B", seconds(pending.waiting_seconds), pending.request_bytes));
    }
    if let Some(cause) = &flow.reset_cause {
        words.push(format!("reset: {cause}"));
    }
    if let Some(reuse) = &flow.reuse {
        let gap = reuse.gap_seconds.map_or(String::new(), |gap| format!(" after {}", seconds(gap)));
        words.push(format!("reuse{gap}: {}", reuse.outcome.as_deref().unwrap_or("open")));
    }
    words.join(", ")
}

/// Counts of both sides, those of the client marked with an arrow to the right.
pub fn anomalies(flow: &FlowRow) -> String {
    let side = |half: &HalfRow, arrow: &str| -> Vec<String> {
        half.anomalies.iter().map(|(name, n)| format!("{n} {name}{arrow}")).collect()
    };
    [side(&flow.from_client, ">"), side(&flow.from_server, "<")].concat().join(", ")
}

/// A duration in three digits or so.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 0.001 => format!("{:.0}us", s * 1e6),
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s if s < 100.0 => format!("{s:.1}s"),
        s if s < 6000.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.0}h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{EndPoint, Pending},
        cli::ClientArgs,
    };

    #[test]
    fn a_flow_is_one_line() {
        let flow = FlowRow {
            point: "outside".into(),
            svc: "card".into(),
            client: EndPoint { address: "192.0.2.1".parse().unwrap(), port: 40000 },
            server: EndPoint { address: "2001:db8::1".parse().unwrap(), port: 443 },
            phase: "established".into(),
            inferred: true,
            age_seconds: 61.0,
            idle_seconds: 0.25,
            pending: Some(Pending { request_bytes: 10_180, waiting_seconds: 7.0, stalled: true }),
            from_client: HalfRow {
                bytes: 10_180,
                anomalies: [("out_of_order".to_owned(), 3)].into(),
                ..HalfRow::default()
            },
            ..FlowRow::default()
        };
        let text = render(&FlowList { total: 3, flows: vec![flow] });
        assert_eq!(text.lines().count(), 3, "{text}");
        for part in [
            "192.0.2.1:40000?",
            "[2001:db8::1]:443",
            "stalled 7.0s for 10180 B",
            "3 out_of_order>",
            "250ms",
            "1 of 3 flows",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn only_what_is_asked_becomes_a_parameter() {
        let filter = FlowFilterArgs { port: Some(443), ..FlowFilterArgs::default() };
        assert_eq!(parameters(&filter), [("port", "443".to_owned())]);
    }

    #[test]
    fn nobody_there_is_a_sentence_with_a_remedy() {
        // Port 1 of loopback: nothing listens there.
        let args = FlowsArgs {
            url: "http://127.0.0.1:1".to_owned(),
            client: ClientArgs::default(),
            output: Output::Json,
            filter: FlowFilterArgs::default(),
        };
        let text = format!("{:#}", flows(&args).unwrap_err());
        assert!(text.contains("http://127.0.0.1:1/api/v1/flows") && text.contains("--url"), "{text}");
    }
}
