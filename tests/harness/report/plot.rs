//! A plot of lines over a logarithmic axis, as SVG.

use super::svg::Drawing;

/// One line of it.
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Any colour that SVG knows.
    pub colour: &'static str,
    /// Dashed, to tell two lines of one colour apart.
    pub dashed: bool,
    /// Where it goes: to the right (1 or more), and up.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Steps of an axis upwards.
pub(crate) fn step(most: f64) -> f64 {
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0]
        .into_iter()
        .find(|step| most / step <= 8.0)
        .unwrap_or(most)
}

/// Draws the lines; `marks` are the places on the axis to the right that have a name.
pub fn svg(title: &str, across: &str, up: &str, marks: &[(f64, &str)], lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = all().map(|p| p.1).fold(1.0, f64::max);
    let far = all().map(|p| p.0).fold(10.0, f64::max).log10();
    let x = |n: f64| LEFT + (WIDTH - LEFT - RIGHT) * n.max(1.0).log10() / far;
    let step = step(most);
    let top = (most / step).ceil() * step;
    let y = |n: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * n / top;
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    drawing.title(LEFT, title);
    drawing.text(LEFT, TOP - 4.0, "end", up);
    drawing.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", across);
    for (at, name) in marks {
        drawing.text(x(*at), HEIGHT - BOTTOM + 18.0, "middle", name);
    }
    let mut level = 0.0;
    while level <= top {
        drawing.text(LEFT - 6.0, y(level) + 4.0, "end", &format!("{level}"));
        level += step;
    }
    for (at, line) in lines.iter().enumerate() {
        drawing.text(WIDTH - RIGHT + 48.0, TOP + 20.0 * at as f64 + 14.0, "start", &line.name);
    }
    let mut level = 0.0;
    while level <= top {
        drawing.stroke("#ddd", 1.0, false, &[(LEFT, y(level)), (WIDTH - RIGHT, y(level))]);
        level += step;
    }
    for (at, line) in lines.iter().enumerate() {
        let points: Vec<_> = line.points.iter().map(|(n, cost)| (x(*n), y(*cost))).collect();
        drawing.stroke(line.colour, 2.0, line.dashed, &points);
        let (from, height) = (WIDTH - RIGHT + 14.0, TOP + 20.0 * at as f64 + 10.0);
        drawing.stroke(line.colour, 2.0, line.dashed, &[(from, height), (from + 28.0, height)]);
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let points = vec![(1.0, 0.0), (1_000.0, 80.0)];
        let line = Line { name: "ours".into(), colour: "red", dashed: true, points };
        let svg = svg("cost", "flows", "ns", &[(1_000.0, "1 k")], &[line]);
        assert!(svg.contains("points=\"60.0,350.0 520.0,40.0\" fill=\"none\" stroke=\"red\""), "{svg}");
        assert!(svg.contains(">1 k</text>") && svg.contains(">ours</text>") && svg.ends_with("</svg>\n"));
    }
}
