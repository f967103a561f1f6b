//! Programs of the distribution that building and testing call.

use anyhow::Result;

use super::{Scope, apt::Apt};

/// One program.
pub struct Tool {
    /// What is looked for.
    pub program: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
    /// What it is for.
    pub why: &'static str,
    scope: Scope,
}

const fn tool(
    scope: Scope,
    program: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
) -> Tool {
    Tool { program, packages, why, scope }
}

/// Every program. They are looked for by name, not by package: one that came another way serves as well.
const TOOLS: &[Tool] = &[
    tool(Scope::Build, "cc", &["gcc", "libc6-dev"], "links every program"),
    tool(Scope::Package, "strip", &["binutils"], "makes the packaged program smaller"),
    tool(Scope::Package, "rpmbuild", &["rpm"], "builds the rpm"),
    tool(Scope::Test, "ip", &["iproute2"], "network namespaces of the tests"),
    tool(Scope::Test, "nft", &["nftables"], "loss and address translation in the tests"),
    tool(Scope::Test, "ethtool", &["ethtool"], "offloads of the tests' interfaces"),
    tool(Scope::Test, "ping", &["iputils-ping"], "traffic that is not TCP"),
    tool(Scope::Test, "curl", &["curl"], "requests through the tests' gateways"),
    tool(Scope::Test, "openssl", &["openssl"], "TLS handshakes with the agent"),
    tool(Scope::Test, "tcpdump", &["tcpdump"], "captures to compare with"),
    tool(Scope::Test, "tshark", &["tshark"], "a second opinion on captures"),
    tool(Scope::Test, "setpriv", &["util-linux"], "the agent as an ordinary user with three capabilities"),
    tool(Scope::Test, "systemd-analyze", &["systemd"], "judges the unit"),
    tool(Scope::Test, "xdp-loader", &["xdp-tools"], "somebody else at the XDP hook"),
    tool(Scope::Test, "promtool", &["prometheus"], "checks the metrics' form"),
    tool(
        Scope::Test,
        "prometheus-alertmanager",
        &["prometheus-alertmanager"],
        "takes the alerts of the tests",
    ),
    tool(Scope::Test, "nginx", &["nginx"], "stands in front of the tests' webhooks"),
    tool(Scope::Kernels, "qemu-system-x86_64", &["qemu-system-x86"], "virtual machines with other kernels"),
    tool(Scope::Kernels, "busybox", &["busybox-static"], "starts what runs in them"),
    tool(Scope::Kernels, "xz", &["xz-utils"], "unpacks kernel modules"),
];

/// Packages that start a server of the same name.
const SERVERS: &[&str] = &["prometheus", "prometheus-alertmanager", "nginx"];

/// The programs that this scope needs and the host does not have.
pub fn missing(scope: Scope, has: impl Fn(&str) -> bool) -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| tool.scope <= scope && !has(tool.program)).collect()
}

/// Installs their packages.
pub fn install(apt: &mut Apt, tools: &[&Tool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = tools.iter().flat_map(|tool| tool.packages).copied().collect();
    apt.install(&packages, "to install the packages above")?;
    // These packages start a server, now and at every boot. Only the programs were wanted.
    for server in SERVERS.iter().filter(|server| packages.contains(server)) {
        apt.stop_service(server);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_absent_and_needed_is_missing() {
        let programs = |scope, has: &[&str]| {
            missing(scope, |p| has.contains(&p)).iter().map(|t| t.program).collect::<Vec<_>>()
        };
        assert_eq!(programs(Scope::Build, &[]), ["cc"]);
        assert!(programs(Scope::Build, &["cc"]).is_empty());
        let packages = ["cc", "strip", "rpmbuild"];
        assert!(programs(Scope::Package, &packages).is_empty());
        let most =
            ["ip", "ethtool", "ping", "curl", "openssl", "tcpdump", "tshark", "setpriv", "systemd-analyze"];
        assert_eq!(
            programs(Scope::Test, &[&packages[..], &most].concat()),
            ["nft", "xdp-loader", "promtool", "prometheus-alertmanager", "nginx"]
        );
    }
}
