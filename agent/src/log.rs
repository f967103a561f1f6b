//! The log: one line an event on standard error, as logfmt or JSON, never with colours.

use crate::cli::{LogArgs, LogFormat, LogLevel};
use std::{fmt, time::SystemTime};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Log from now on as the flags say. Libraries speak only from `warn` up.
pub fn init(args: &LogArgs) {
    let level = match args.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("agent", level)
        .with_target("fivetuple", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .event_format(Lines { format: args.format });
    tracing_subscriber::registry().with(targets).with(lines).init();
}

/// Formats one event as one line.
struct Lines {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = match self.format {
            LogFormat::Logfmt => logfmt(&time, *event.metadata().level(), &fields),
            LogFormat::Json => json(&time, *event.metadata().level(), &fields),
        };
        writeln!(out, "{line}")
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            (name, value) => self.rest.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn logfmt(time: &str, level: Level, fields: &Fields) -> String {
    let mut line = format!("ts={time} level={} msg=", level_name(level));
    push_value(&mut line, &fields.message);
    for (name, value) in &fields.rest {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        match value {
            serde_json::Value::String(text) => push_value(&mut line, text),
            other => line.push_str(&other.to_string()),
        }
    }
    line
}

/// A value as it is where that is unambiguous, else quoted with JSON's escapes, which logfmt readers take.
fn push_value(line: &mut String, text: &str) {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
    } else {
        line.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn json(time: &str, level: Level, fields: &Fields) -> String {
    let text = |s: &str| serde_json::Value::from(s).to_string();
    let mut line =
        format!(r#"{{"ts":"{time}","level":"{}","msg":{}"#, level_name(level), text(&fields.message));
    for (name, value) in &fields.rest {
        line.push_str(&format!(",{}:{value}", text(name)));
    }
    line.push('}');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "attached".into(),
            rest: vec![
                ("interface", "eth0".into()),
                ("reason", "it said \"no\"\nand x=1".into()),
                ("path", r"a\b".into()),
                ("empty", "".into()),
                ("mtu", 1500.into()),
                ("ok", true.into()),
            ],
        }
    }

    #[test]
    fn logfmt_quotes_only_what_it_must() {
        assert_eq!(
            logfmt("2025-01-01T00:00:00.000Z", Level::INFO, &fields()),
            r#"ts=2025-01-01T00:00:00.000Z level=info msg=attached interface=eth0 reason="it said \"no\"\nand x=1" path="a\\b" empty="" mtu=1500 ok=true"#
        );
    }

    #[test]
    fn json_is_json_and_one_line() {
        let line = json("2025-01-01T00:00:00.000Z", Level::WARN, &fields());
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "attached");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["mtu"], 1500);
        assert_eq!(value["reason"], "it said \"no\"\nand x=1");
    }
}
