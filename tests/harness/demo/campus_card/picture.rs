//! The path of the requests, with what each point saw of them and what happened between.

use crate::report::svg::Drawing;

use super::said::{Located, REORDERED, Seen, VANISHED};
use super::{REORDERING, VANISHING};

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 380.0;
/// The wire.
const WIRE: f64 = 84.0;
/// A device.
const BOX: (f64, f64) = (96.0, 36.0);
/// From one device to the next.
const APART: f64 = 200.0;
/// Where the first device is.
const FIRST: f64 = 60.0;
/// The columns: where they stand, how high the highest is, and how wide they are.
const FLOOR: f64 = 330.0;
const TALL: f64 = 160.0;
const WIDE: f64 = 104.0;

/// Draws it.
pub(super) fn svg(seen: &[Seen; 4], located: &Located<'_>) -> String {
    let [outside, _, front, behind] = seen;
    let (reordered, vanished) = (located.at(REORDERING, REORDERED), located.at(VANISHING, VANISHED));
    let devices = [
        ("provider", format!("sends {}", outside.all)),
        ("firewall", format!("reorders {reordered}")),
        ("router", format!("passes on {}", front.all)),
        ("WAF", format!("swallows {vanished}")),
        ("card server", format!("answers {}", behind.answered)),
    ];
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    let lost = outside.all - outside.answered;
    let title =
        format!("Campus card: {} payments, {lost} without an answer, as fivetuple tells it", outside.all);
    drawing.title(FIRST - BOX.0 / 2.0, &title);
    drawing.stroke("#555", 2.0, false, &[(FIRST, WIRE), (FIRST + 4.0 * APART, WIRE)]);
    for (at, (name, does)) in devices.iter().enumerate() {
        let x = FIRST + APART * at as f64;
        let fill = if matches!(*name, "firewall" | "WAF") { "#f5b7b1" } else { "#eee" };
        drawing.rectangle((x - BOX.0 / 2.0, WIRE - BOX.1 / 2.0), BOX, Some(fill));
        drawing.text(x, WIRE + 4.0, "middle", name);
        drawing.text(x, WIRE + BOX.1 / 2.0 + 16.0, "middle", does);
    }
    for (at, point) in seen.iter().enumerate() {
        let x = FIRST + APART * (at as f64 + 0.5);
        drawing.circle((x, WIRE), 5.0, "#2c3e50");
        drawing.text(x, WIRE - 12.0, "middle", point.name);
        column(&mut drawing, x, point, outside.all);
    }
    drawing.finish()
}

/// What a point saw, from the floor up: in order, reordered, and what did not come as far.
fn column(drawing: &mut Drawing, x: f64, point: &Seen, of: usize) {
    let parts = [
        (point.all - point.reordered, "in order", Some("#abebc6")),
        (point.reordered, "reordered", Some("#f8c471")),
        (of.saturating_sub(point.all), "swallowed", None),
    ];
    let mut top = FLOOR;
    for (count, what, fill) in parts.into_iter().filter(|(count, ..)| *count > 0) {
        let height = TALL * count as f64 / of as f64;
        top -= height;
        drawing.rectangle((x - WIDE / 2.0, top), (WIDE, height), fill);
        drawing.text(x, top + height / 2.0 + 4.0, "middle", &format!("{count} {what}"));
    }
    let unanswered = point.all - point.answered;
    drawing.text(x, FLOOR + 18.0, "middle", &format!("{} seen, {} answered", point.all, point.answered));
    drawing.text(x, FLOOR + 34.0, "middle", &format!("{unanswered} without an answer"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_point_has_its_numbers() {
        let of = |name, all, reordered| Seen { name, all, reordered, answered: 6 };
        let seen = [of("outside", 10, 0), of("inside", 10, 4), of("front", 10, 4), of("behind", 6, 0)];
        let row = json!({ "from": "front", "to": "behind", "vanished": 4 });
        let svg = svg(&seen, &Located(&json!({ "between": [row] })));
        for words in ["10 in order", "4 reordered", "4 swallowed", "swallows 4", "6 seen, 6 answered"] {
            assert!(svg.contains(&format!(">{words}</text>")), "{words}: {svg}");
        }
    }
}
