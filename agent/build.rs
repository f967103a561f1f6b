//! Puts the kernel object where `src/` includes it from; how it is built is in `xtask/src/bpf/`.

fn main() -> anyhow::Result<()> {
    xtask::bpf::embed::embed(xtask::sh::root())
}
