//! The rpm's life, with a database of its own in a copy of this host; what it requires is another distribution's.

use std::process::Command;

use crate::{
    host::Host,
    package::{FILES, build, run},
};

#[test]
fn it_comes_stays_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let packages = [1, 2].map(|revision| build("rpm", revision, directory.path()));
    let ask =
        |what: &[&str]| run(Command::new("rpm").arg("--query").args(what).arg("--package").arg(&packages[0]));

    let list = ask(&["--list"]);
    for file in FILES.iter().chain(&["/usr/share/zsh/site-functions/_fivetuple"]) {
        assert!(list.lines().any(|line| line == *file), "{file} is not in\n{list}");
    }
    let configuration = ask(&["--configfiles"]);
    assert_eq!(configuration.lines().count(), 3, "{configuration}");
    let scripts = ask(&["--scripts"]);
    for part in ["preinstall", "postinstall", "preuninstall", "postuninstall"] {
        assert!(scripts.contains(&format!("{part} scriptlet")), "no {part} in\n{scripts}");
    }
    let required = ask(&["--requires"]);
    assert!(required.contains("shadow-utils") && required.contains("libc.so.6"), "{required}");

    Host::copied(|host| {
        let [first, second] = packages.each_ref().map(|package| host.bring(package));
        host.sh("dpkg --purge fivetuple");
        let rpm = "rpm --dbpath /tmp/rpm --nodeps";
        host.sh(&format!("{rpm} --install {first}"));
        assert_eq!(host.sh("stat --format '%U %G %a' /etc/fivetuple"), "root fivetuple 750\n");
        assert_eq!(host.sh("fivetuple --version"), concat!("fivetuple ", env!("CARGO_PKG_VERSION"), "\n"));
        host.sh("echo '# mine' >> /etc/fivetuple/fivetuple.yaml");
        host.sh(&format!("{rpm} --upgrade {second}"));
        assert!(host.read("/etc/fivetuple/fivetuple.yaml").ends_with("# mine\n"));
        host.sh(&format!("{rpm} --erase fivetuple"));
        assert!(!host.has("/usr/bin/fivetuple") && !host.has("/usr/lib/systemd/system/fivetuple.service"));
        assert!(host.has("/etc/fivetuple/fivetuple.yaml.rpmsave"), "an operator's changes stay");
    });
}
