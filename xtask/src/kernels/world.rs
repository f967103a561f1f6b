//! What a machine finds in its memory when it starts: the programs under test, those they call, and `init`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::sh;

use super::{cpio, debian::Kernel, said};
use crate::kernel_log;

/// Programs of the host that the tests call.
const CALLED: &[&str] = &["ip", "tc", "ethtool", "setpriv", "xdp-loader"];
/// What `xdp-loader` puts on an interface, by their places on every Debian.
const PROGRAMS: &[&str] = &["xdp-dispatcher.o", "xdpfilt_alw_all.o"];
const PROGRAMS_FOLDER: &str = "usr/lib/x86_64-linux-gnu/bpf";
const FOLDERS: &[&str] = &["bin", "proc", "sys", "dev", "tmp", "run", "modules"];

/// Makes the archive, and says where it is.
pub fn make(cache: &Path, kernel: &Kernel, programs: &[PathBuf], tests: &[(&str, &str)]) -> Result<PathBuf> {
    let world = cache.join("world");
    let _ = fs::remove_dir_all(&world);
    for folder in FOLDERS {
        fs::create_dir_all(world.join(folder))?;
    }
    let place = |program: &str| sh::find_program(program).with_context(|| format!("there is no {program}"));
    bring(&place("busybox")?, &world.join("bin/busybox"))?;
    for program in CALLED {
        let path = place(program)?;
        bring(&path, &world.join("bin").join(program))?;
        libraries(&path, &world)?;
    }
    let objects = world.join(PROGRAMS_FOLDER);
    fs::create_dir_all(&objects)?;
    for name in PROGRAMS {
        bring(&Path::new("/").join(PROGRAMS_FOLDER).join(name), &objects.join(name))?;
    }
    let names = ["fivetuple"].into_iter().chain(tests.iter().map(|(name, _)| *name));
    for (path, name) in programs.iter().zip(names) {
        // Two thirds of them are for debuggers, and all of it has to fit into the machine's memory.
        let to = world.join("bin").join(name);
        sh::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&to).arg(path))?;
        libraries(path, &world)?;
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        bring(module, &world.join(format!("modules/{number:02}.ko")))?;
    }
    fs::write(world.join("init"), init(tests))?;
    fs::set_permissions(world.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = cache.join("world.cpio");
    cpio::write(&world, &archive)?;
    fs::remove_dir_all(world)?;
    Ok(archive)
}

fn bring(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

/// The shared libraries of a program, and what loads them, at the places where it looks for them.
fn libraries(program: &Path, world: &Path) -> Result<()> {
    for library in paths(&said("ldd", &[&program.to_string_lossy()])?) {
        let to = world.join(library.trim_start_matches('/'));
        if let Some(folder) = to.parent().filter(|_| !to.exists()) {
            fs::create_dir_all(folder)?;
            bring(Path::new(library), &to)?;
        }
    }
    Ok(())
}

/// The files that `ldd` names.
fn paths(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

/// The first program: it ends the machine with a line that says how the tests ended.
fn init(tests: &[(&str, &str)]) -> String {
    let tests: String = tests
        .iter()
        .map(|(name, filter)| format!("{name} --test-threads=1 --nocapture {filter} || status=1\n"))
        .collect();
    let complaint = kernel_log::pattern();
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin
for applet in sh unshare mount insmod dmesg grep poweroff sleep; do /bin/busybox ln -s /bin/busybox /bin/$applet; done
export PATH=/bin FIVETUPLE_BIN=/bin/fivetuple RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*.ko; do insmod $module || status=1; done
: "${{status:=0}}"
# From here on as strict as an administrator can make it.
mount -t securityfs securityfs /sys/kernel/security
echo confidentiality > /sys/kernel/security/lockdown || status=1
echo 2 > /proc/sys/kernel/unprivileged_bpf_disabled || status=1
ip link set lo up
{tests}dmesg | grep -E '{complaint}' && echo 'the kernel complains' && status=1
echo "machine-status: $status"
poweroff -f
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_their_loader_are_found() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(paths(said).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so"]);
    }

    #[test]
    fn a_test_that_fails_is_remembered() {
        assert!(
            init(&[("parity", "scripted::")])
                .contains("\nparity --test-threads=1 --nocapture scripted:: || status=1\n")
        );
    }
}
