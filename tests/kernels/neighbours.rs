//! Another user of the XDP hook, as distributions have him: `xdp-loader` puts libxdp's dispatcher there, which runs programs
//! one after the other; or the one program itself, where the kernel lets no program replace a part of another.

use std::process::Output;

use harness::agent::Launch;
use harness::topology::RIGHT;
use harness::{Bpffs, Pair};

use crate::release::Release;
use crate::traffic::{connections, end};

/// Lets everything pass that it is not told to drop.
const PROGRAM: &str = "/usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_all.o";

/// Calls `xdp-loader` on the right host, with pins and a lock file of its own.
fn loader(pair: &Pair, bpffs: &Bpffs, words: &str) -> Output {
    let pins = bpffs.path().display();
    let script =
        format!("mount --bind {pins} /sys/fs/bpf && mount -t tmpfs none /run && exec xdp-loader {words}");
    let mut command = pair.right.cmd("unshare");
    command.args(["--mount", "sh", "-c", &script]).output().expect("unshare is there")
}

#[track_caller]
fn done(pair: &Pair, bpffs: &Bpffs, words: &str) -> String {
    let output = loader(pair, bpffs, words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "xdp-loader {words}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What is at the XDP hook: number and name.
fn held(pair: &Pair) -> Option<(u64, String)> {
    let links: serde_json::Value =
        serde_json::from_str(&pair.right.exec("ip -j -d link show eth0")).expect("it is JSON");
    let program = &links[0]["xdp"]["prog"];
    Some((program["id"].as_u64()?, program["name"].as_str()?.to_owned()))
}

#[test]
fn the_dispatcher_of_libxdp_stays_and_both_see_everything() {
    let (pair, bpffs) = (Pair::new().patient(), Bpffs::new());
    done(&pair, &bpffs, &format!("load eth0 {PROGRAM}"));
    let holder = held(&pair).expect("somebody holds the hook");
    let agent = Launch::interfaces(&["eth0"]).start(&pair.right);
    let why = format!("the XDP hook is held by program {} ", holder.0);
    assert!(agent.log().iter().any(|line| line.contains(&why)), "{why}: {:?}", agent.log());
    let passed = connections(&pair, RIGHT.v4.into(), 5);
    passed.is_counted("eth0", &agent, &pair.left);
    assert_eq!(held(&pair).as_ref(), Some(&holder));
    // He may go, come back and change what he runs while we are there.
    done(&pair, &bpffs, "unload eth0 --all");
    done(&pair, &bpffs, &format!("load eth0 {PROGRAM}"));
    let holder = held(&pair);
    let stays = end(agent, &pair.right);
    assert!(stays.len() == 1 && stays[0].starts_with("eth0: xdp"), "{stays:?}");
    assert_eq!(held(&pair), holder);
    println!("{}: beside {}, each count right", Release::running(), holder.expect("he came back").1);
    done(&pair, &bpffs, "unload eth0 --all");
}

/// Where the hook is ours it is him who is refused.
#[test]
fn the_dispatcher_of_libxdp_does_not_take_our_hook() {
    let (pair, bpffs) = (Pair::new().patient(), Bpffs::new());
    let agent = Launch::configuration("interfaces:\n  - name: eth0\n    ingress: xdp\n").start(&pair.right);
    let ours = held(&pair).expect("we hold the hook");
    let refused = loader(&pair, &bpffs, &format!("load eth0 {PROGRAM}"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("busy"), "{said}");
    assert_eq!(held(&pair), Some(ours), "{said}");
    let passed = connections(&pair, RIGHT.v4.into(), 5);
    passed.is_counted("eth0", &agent, &pair.left);
    assert_eq!(end(agent, &pair.right), Vec::<String>::new());
}
