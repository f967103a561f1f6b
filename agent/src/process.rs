//! What the agent itself costs, under the names that every Prometheus client library gives it.

/// Figures of this process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is in use, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// When it started, in seconds of Unix time.
    pub start_time_seconds: f64,
}

impl Process {
    /// Read /proc/self; what cannot be read is 0.
    pub fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64);
        // SAFETY: sysconf has no preconditions.
        let [ticks, page] =
            [libc::_SC_CLK_TCK, libc::_SC_PAGESIZE].map(|name| unsafe { libc::sysconf(name) });
        Self { open_fds, ..Self::parse(&stat, &boot, ticks.max(1) as f64, page.max(1) as u64) }
    }

    /// proc_pid_stat(5); fields are counted from behind the name, which may hold anything.
    fn parse(stat: &str, boot: &str, ticks: f64, page: u64) -> Self {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let boot_time =
            boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
        Self {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks,
            threads: field(20),
            start_time_seconds: boot_time + field(22) as f64 / ticks,
            virtual_bytes: field(23),
            resident_bytes: field(24) * page,
            open_fds: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (five) tuple) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 3 0 1000 8192 25 0";
        let process = Process::parse(stat, "cpu 1\nbtime 1700000000\n", 100.0, 4096);
        assert_eq!(process.cpu_seconds, 2.0);
        assert_eq!(process.threads, 3);
        assert_eq!(process.start_time_seconds, 1_700_000_010.0);
        assert_eq!((process.virtual_bytes, process.resident_bytes), (8192, 25 * 4096));
    }

    #[test]
    fn this_process_is_there() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.open_fds > 0 && process.start_time_seconds > 1e9);
    }
}
