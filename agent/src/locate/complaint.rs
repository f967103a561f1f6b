//! What stands in the way of any comparison, and what to do about it.

use super::{Located, between::Between, path::Relation};
use crate::{
    cli::LocateArgs,
    connection::{Connection, source::Source},
    flows,
};
use anyhow::{Result, bail};
use std::time::{Duration, UNIX_EPOCH};

/// When a point saw connections, from the first to the last packet, by the clock of the first point.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn of(located: &Located, point: usize) -> Self {
        let set_right = |at: u64| at.wrapping_add_signed(located.path.ahead_ns[point].wrapping_neg());
        let list = &located.points[point];
        Self {
            from: set_right(list.iter().map(|c| c.times.opened_ns).min().unwrap_or_default()),
            to: set_right(list.iter().map(|c| c.times.last_seen_ns).max().unwrap_or_default()),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Says what stands in the way.
pub fn complain(located: &Located, args: &LocateArgs) -> Result<()> {
    for (point, list) in args.points.iter().zip(&located.points) {
        if list.is_empty() {
            let kind = if matches!(point.source, Source::Capture(_)) { "capture" } else { "agent" };
            bail!("{} saw no TCP connection; is {} the right {kind}?", point.name, point.source);
        }
    }
    if located.asked.is_empty() {
        let what = match (&args.svc, &args.flow) {
            (Some(svc), _) => format!(
                "of the service {svc} (its name and servers are the agents', or those of --config.file)"
            ),
            (None, Some(_)) => "with these ends; write them as one of the points sees them".to_owned(),
            (None, None) => String::new(),
        };
        bail!("no point saw a connection {what}");
    }
    let told = |b: &Between| !b.compared.is_empty() || !b.vanished.is_empty();
    if located.between.iter().any(told) || located.names.len() < 2 {
        return Ok(());
    }
    let spans: Vec<Span> = (0..located.names.len()).map(|point| Span::of(located, point)).collect();
    let listed = listed(located, &spans);
    if located.between.iter().any(|b| b.proxy) {
        bail!(
            "{}, so nothing can be compared: {listed}; of a connection that a proxy opened, ask for the one that \
             it was opened for",
            asked(located)
        );
    }
    if located.path.relations.iter().flatten().any(|relation| *relation != Relation::None) {
        bail!(
            "{}, so nothing can be compared, though other connections were seen at two: {listed}; ask for one \
             of those, or name points that it passes",
            asked(located)
        );
    }
    if (1..spans.len()).any(|b| spans[..b].iter().any(|a| a.overlaps(spans[b]))) {
        bail!(
            "no connection was seen at two points, although these overlap in time: {listed}; name points that the \
             same connections pass"
        );
    }
    bail!(
        "no connection was seen at two points, and by their clocks these do not overlap in time: {listed}; capture \
         at all of them at the same time (their clocks may be apart)"
    )
}

/// What was asked for, and where it was seen.
fn asked(located: &Located) -> String {
    let [one] = located.asked.iter().collect::<Vec<_>>()[..] else {
        let n = located.asked.len();
        return format!("none of the {n} connections asked for was seen at two neighbouring points");
    };
    let places = located.path.joined[*one].at.iter().zip(&located.points).zip(&located.names);
    let seen: Vec<(&Connection, &str)> =
        places.filter_map(|((place, list), name)| Some((&list[(*place)?], name.as_str()))).collect();
    let names: Vec<&str> = seen.iter().map(|(_, name)| *name).collect();
    let ends = seen.first().map(|(c, _)| format!("{} to {}", c.client, c.server)).unwrap_or_default();
    format!("{ends} was seen at {} only", names.join(" and "))
}

fn listed(located: &Located, spans: &[Span]) -> String {
    let one = |(name, span): (&String, &Span)| {
        let seconds = flows::seconds(span.to.saturating_sub(span.from) as f64 / 1e9);
        format!("{name} from {} for {seconds}", time(span.from))
    };
    located.names.iter().zip(spans).map(one).collect::<Vec<_>>().join(", ")
}

fn time(ns: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(ns)).to_string()
}
