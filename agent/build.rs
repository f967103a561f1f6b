//! Puts the kernel object where `src/` includes it from; how it is built is in `xtask/src/bpf/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::bpf::embed::embed(xtask::sh::root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Cargo repeats these lines as errors of its own, below all that the compiler may have said.
            for line in format!("{why:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}
