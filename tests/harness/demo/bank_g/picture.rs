//! Resets by stage, with what was predicted beside.

use crate::cases::bank_g::Stage;
use crate::report::plot::step;
use crate::report::svg::Drawing;

use super::{Day, name};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 70.0;
const FLOOR: f64 = 320.0;
/// From one stage to the next.
const APART: f64 = 160.0;
/// A bar.
const WIDE: f64 = 56.0;
const RESETS: &str = "#c0392b";
const PREDICTED: &str = "#2c3e50";

/// Draws it.
pub(super) fn svg(days: &[Day]) -> String {
    let heights = days.iter().flat_map(|day| [day.said.resets, day.predicted.map_or(0.0, |p| p.high)]);
    let most = heights.fold(1.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let y = |count: f64| FLOOR - (FLOOR - TOP) * count / top;
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    drawing.title(LEFT, "Bank G: resets, and what stage 0 predicted");
    drawing.rectangle((LEFT, 38.0), (12.0, 12.0), Some(RESETS));
    drawing.text(LEFT + 18.0, 48.0, "start", "resets that fivetuple counted");
    prediction(&mut drawing, LEFT + 230.0, [50.0, 44.0, 38.0]);
    drawing.text(LEFT + 244.0, 48.0, "start", "predicted, with its interval of 95 %");
    let mut level = 0.0;
    while level <= top {
        drawing.text(LEFT - 6.0, y(level) + 4.0, "end", &format!("{level}"));
        drawing.stroke("#ddd", 1.0, false, &[(LEFT, y(level)), (LEFT + 4.0 * APART, y(level))]);
        level += step;
    }
    for ((number, day), stage) in days.iter().enumerate().zip(Stage::ALL) {
        let x = LEFT + APART * (number as f64 + 0.4);
        let height = y(day.said.resets);
        drawing.rectangle((x - WIDE / 2.0, height), (WIDE, FLOOR - height), Some(RESETS));
        drawing.text(x, height - 5.0, "middle", &day.said.resets.to_string());
        if let Some(predicted) = day.predicted {
            let ends = [predicted.low, predicted.expected, predicted.high].map(y);
            prediction(&mut drawing, x + WIDE / 2.0 + 16.0, ends);
        }
        drawing.text(x, FLOOR + 18.0, "middle", &format!("{number}: {}", name(stage)));
        drawing.text(x, FLOOR + 34.0, "middle", &format!("of {} payments", day.payments));
    }
    drawing.finish()
}

/// An interval, from its lower end up, with the value expected.
fn prediction(drawing: &mut Drawing, x: f64, [low, expected, high]: [f64; 3]) {
    drawing.stroke(PREDICTED, 2.0, false, &[(x, low), (x, high)]);
    for end in [low, high] {
        drawing.stroke(PREDICTED, 2.0, false, &[(x - 5.0, end), (x + 5.0, end)]);
    }
    drawing.circle((x, expected), 4.0, PREDICTED);
}

#[cfg(test)]
mod tests {
    use super::super::said::{Predicted, Said};
    use super::*;

    #[test]
    fn bars_and_intervals_have_their_heights() {
        let said = Said { payments: 100.0, resets: 40.0, time_wait: 40.0, proved: 40.0 };
        let predicted = Some(Predicted { low: 0.0, expected: 20.0, high: 40.0 });
        let svg = svg(&[Day { payments: 100, resets: 40, said, predicted }]);
        assert!(svg.contains("height=\"250.0\" fill=\"#c0392b\""), "{svg}");
        assert!(svg.contains("cy=\"195.0\"") && svg.contains(">0: as it was</text>"), "{svg}");
    }
}
