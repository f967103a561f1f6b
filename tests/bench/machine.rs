//! The machine that was measured on.

use std::{fs, thread};

/// Processors, their name, and the kernel.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Names of builds are the builder's business.
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("machine: {cores} cores, {}; Linux {kernel}", model(&cpus))
}

fn model(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let line =
            cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let Some(name) = field("model name") else {
        return "processor unknown".to_owned();
    };
    match field("cpu family").zip(field("model")) {
        Some((family, model)) => format!("{name} (family {family}, model {model})"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_names() {
        let text = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\ncpu family\t: 25\n";
        assert_eq!(model(text), "AMD EPYC (family 25, model 1)");
        assert_eq!(model("nothing"), "processor unknown");
    }
}
