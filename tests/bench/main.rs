//! Benchmarks; `cargo xtask bench` starts them.

mod kernel;
mod packet;
mod stats;

use anyhow::{Result, bail};
use stats::Figure;

fn main() -> Result<()> {
    let (mut json, mut names) = (false, Vec::new());
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--json" => json = true,
            "packet" => names.push(arg),
            other => bail!("there is no benchmark {other:?}; there is: packet"),
        }
    }
    if !json {
        println!("{:<34} {:>18} {:>18} {:>20}", "median (spread)", "ours, ns", "floor, ns", "ours/floor");
    }
    packet::measure(|figure: Figure| {
        if json {
            println!("{}", figure.json());
        } else {
            println!("{figure}");
        }
    })
}
