//! An SVG, element by element.

use std::fmt::Write as _;

/// A drawing on white. Places are to the right and down, from the upper left corner.
pub struct Drawing(String);

impl Drawing {
    /// An empty one of this size.
    pub fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ))
    }

    /// What it shows, above the rest.
    pub fn title(&mut self, x: f64, words: &str) {
        let words = escaped(words);
        let _ = writeln!(self.0, "<text x=\"{x}\" y=\"24\" font-size=\"15\">{words}</text>");
    }

    /// Words on a line; `anchor` says what of them is at the place: `start`, `middle` or `end`.
    pub fn text(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let words = escaped(words);
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
    }

    /// Lines from each place to the next.
    pub fn stroke(&mut self, colour: &str, width: f64, dashed: bool, points: &[(f64, f64)]) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (path, dash) = (path.join(" "), dash(dashed));
        let _ = writeln!(
            self.0,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>"
        );
    }

    /// A filled rectangle; an empty one has a dashed edge.
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: Option<&str>) {
        let (dash, fill) = (dash(fill.is_none()), fill.unwrap_or("none"));
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" \
             stroke=\"#555\"{dash}/>"
        );
    }

    /// A filled circle.
    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, fill: &str) {
        let _ = writeln!(self.0, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\"/>");
    }

    /// The file.
    pub fn finish(self) -> String {
        self.0 + "</svg>\n"
    }
}

fn dash(dashed: bool) -> &'static str {
    if dashed { " stroke-dasharray=\"5 4\"" } else { "" }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_follow_each_other() {
        let mut drawing = Drawing::new(20.0, 10.0);
        drawing.text(1.0, 2.0, "end", "a < b & c");
        drawing.rectangle((1.0, 2.0), (3.0, 4.0), None);
        let svg = drawing.finish();
        assert!(svg.contains("viewBox=\"0 0 20 10\"") && svg.contains(">a &lt; b &amp; c</text>"), "{svg}");
        assert!(svg.contains("fill=\"none\" stroke=\"#555\" stroke-dasharray") && svg.ends_with("</svg>\n"));
    }
}
