//! How far a replay has come, on a terminal and nowhere else.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// Packets between two looks at the clock.
const LOOK: u32 = 1 << 14;
/// How often the line is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// Places of the bar.
const BAR: usize = 30;

/// The line of one capture.
pub struct Progress {
    name: String,
    size: Option<u64>,
    packets: u64,
    began: Instant,
    drawn: Option<Instant>,
    /// Packets until the next look at the clock; none where nobody looks at the line.
    left: Option<u32>,
}

impl Progress {
    /// For a capture of this many bytes.
    pub fn new(path: &Path, size: Option<u64>) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let left = io::stderr().is_terminal().then_some(LOOK);
        Self { name, size, packets: 0, began: Instant::now(), drawn: None, left }
    }

    /// Another packet; `position` tells how many bytes of the file are behind it.
    #[inline]
    pub fn packet(&mut self, position: impl FnOnce() -> u64) {
        let Some(left) = &mut self.left else { return };
        *left -= 1;
        if *left == 0 {
            *left = LOOK;
            self.packets += u64::from(LOOK);
            self.look(position());
        }
    }

    #[cold]
    fn look(&mut self, position: u64) {
        let now = Instant::now();
        if now - self.drawn.unwrap_or(self.began) >= REDRAW {
            self.drawn = Some(now);
            let line = draw(&self.name, self.packets, position, self.size, now - self.began);
            // What a terminal refuses to show is not worth an error.
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }

    /// Takes the line away, so that something else can be written.
    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn draw(name: &str, packets: u64, position: u64, size: Option<u64>, took: Duration) -> String {
    let millions = packets as f64 / 1e6;
    let speed = millions / took.as_secs_f64();
    let told = format!("{millions:.1} M packets, {speed:.1} M/s");
    let Some(size) = size.filter(|size| *size > 0) else {
        return format!("{name}: {} MiB, {told}", position >> 20);
    };
    let part = (position as f64 / size as f64).min(1.0);
    let full = (part * BAR as f64) as usize;
    let left = took.mul_f64((1.0 - part) / part.max(1e-3)).as_secs();
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
    format!("{name} [{bar}] {:.0} %, {told}, {left} s left", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_and_how_long() {
        let line = draw("a.pcap", 5_000_000, 1 << 20, Some(4 << 20), Duration::from_secs(1));
        assert_eq!(line, "a.pcap [#######.......................] 25 %, 5.0 M packets, 5.0 M/s, 3 s left");
        let line = draw("-", 500_000, 3 << 20, None, Duration::from_secs(1));
        assert_eq!(line, "-: 3 MiB, 0.5 M packets, 0.5 M/s");
    }
}
