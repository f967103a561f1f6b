//! Which exposition format a scraper gets, and the older of the two texts made from the newer.

use std::fmt::Write as _;

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's protobuf messages, which carry exemplars, and histograms as one series each.
    Protobuf,
    /// OpenMetrics 1.0, the only text that carries exemplars.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, which everything reads.
    Text,
}

impl Format {
    /// The best format by the q values of an `Accept` header. What asks for nothing we have gets text.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut q, mut version) = (1.0, None);
            let (mut proto, mut encoding) = (None, None);
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => q = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    "proto" => proto = Some(value.trim().trim_matches('"')),
                    "encoding" => encoding = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let format = match (media.as_str(), version) {
                ("application/vnd.google.protobuf", _)
                    if proto == Some("io.prometheus.client.MetricFamily")
                        && encoding == Some("delimited") =>
                {
                    Self::Protobuf
                }
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            // The richer format wins a draw.
            if q > best.0 || (q == best.0 && q > 0.0 && format.richness() > best.1.richness()) {
                best = (q, format);
            }
        }
        best.1
    }

    fn richness(self) -> u8 {
        match self {
            Self::Protobuf => 2,
            Self::OpenMetrics => 1,
            Self::Text => 0,
        }
    }

    /// The `Content-Type` of an answer in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Text 0.0.4 names a counter by its samples, and has no units, no exemplars and no end mark.
pub fn to_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                let _ = writeln!(out, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line.split_once(" # {").map_or(line, |(sample, _exemplar)| sample));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_decides() {
        let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_2_42 = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let protobuf_first = format!(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,{prometheus3}"
        );
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            (prometheus3, Format::OpenMetrics),
            (protobuf_first.as_str(), Format::Protobuf),
            (prometheus_2_42, Format::Protobuf),
            ("application/vnd.google.protobuf", Format::Text),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Format::Text,
            ),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0.2,text/plain;version=0.0.4;q=0.9", Format::Text),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/json", Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn text_is_made_of_openmetrics() {
        let open = "# HELP f_resets RSTs.\n# TYPE f_resets counter\n# UNIT f_resets x\nf_resets_total{cause=\"idle\"} 3 # {event_id=\"7\"} 1.0 1700000000.5\n# HELP f_up Up.\n# TYPE f_up gauge\nf_up 1\n# EOF\n";
        assert_eq!(
            to_text(open),
            "# HELP f_resets_total RSTs.\n# TYPE f_resets_total counter\nf_resets_total{cause=\"idle\"} 3\n# HELP f_up Up.\n# TYPE f_up gauge\nf_up 1\n"
        );
    }
}
