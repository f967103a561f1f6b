//! The deb's life on a host: installed, upgraded, removed, purged.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::{
    host::Host,
    package::{FILES, build},
};

const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/fivetuple.service";
const CONFIGURATION: &str = "/etc/fivetuple/fivetuple.yaml";

#[test]
fn it_comes_stays_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let packages = [1, 2].map(|revision| build("deb", revision, directory.path()));
    Host::copied(|host| {
        // Where somebody has it installed already.
        host.sh("dpkg --purge fivetuple");
        // Or each step has the index of all man pages made anew.
        host.sh("rm -f /var/lib/man-db/auto-update");
        let (before, users) = (host.changes(), users(host));
        let [first, second] = packages.map(|package| host.bring(&package));

        host.sh(&format!("dpkg --install {first}"));
        for file in FILES.iter().chain(&["/usr/share/doc/fivetuple/copyright"]) {
            assert!(host.has(file), "{file} is missing");
        }
        is_ready_for_its_service(host);

        host.sh(&format!("echo '# mine' >> {CONFIGURATION}; echo secret > /etc/fivetuple/web.yml"));
        host.sh("install -d -o fivetuple /var/log/fivetuple; echo {} > /var/log/fivetuple/connections.jsonl");
        host.sh("systemctl disable fivetuple.service");
        host.sh(&format!("dpkg --install {second}"));
        assert_eq!(host.sh("dpkg-query --show --showformat='${Version} ${Status}' fivetuple"), SECOND);
        assert!(host.read(CONFIGURATION).ends_with("# mine\n"), "an operator's changes stay");
        assert!(!host.has(WANTED), "what an operator disabled stays disabled");

        host.sh("dpkg --remove fivetuple");
        assert!(!host.has("/usr/bin/fivetuple") && !host.has("/usr/lib/systemd/system/fivetuple.service"));
        assert!(host.read(CONFIGURATION).ends_with("# mine\n"), "until it is purged");
        assert!(host.has("/var/log/fivetuple/connections.jsonl"), "until it is purged");

        host.sh("dpkg --purge fivetuple");
        assert_eq!(self::users(host), users, "the user is gone, and nobody else");
        let left: Vec<_> = host.changes().into_iter().filter(|name| !before.contains(name)).collect();
        let ours: Vec<_> = left.iter().filter(|name| name.contains("fivetuple") && host.has(name)).collect();
        assert_eq!(ours, Vec::<&String>::new(), "of {left:?}");
    });
}

const SECOND: &str = concat!(env!("CARGO_PKG_VERSION"), "-2 install ok installed");

/// Names and numbers of users and groups.
fn users(host: &Host) -> [String; 2] {
    ["/etc/passwd", "/etc/group"].map(|file| host.read(file))
}

#[track_caller]
fn is_ready_for_its_service(host: &Host) {
    let user = host.sh("getent passwd fivetuple");
    assert!(user.ends_with(":/nonexistent:/usr/sbin/nologin\n"), "{user}");
    let [passwords, configuration] =
        ["/etc/fivetuple", CONFIGURATION].map(|name| fs::metadata(host.path(name)).unwrap());
    let group = host.sh("getent group fivetuple").split(':').nth(2).and_then(|number| number.parse().ok());
    assert_eq!((passwords.mode() & 0o777, passwords.uid(), Some(passwords.gid())), (0o750, 0, group));
    assert_eq!(configuration.uid(), 0, "the service reads it, and cannot write it");
    assert!(host.has(WANTED), "enabled");
    let user = "setpriv --reuid fivetuple --regid fivetuple --init-groups --no-new-privs";
    let said =
        host.sh(&format!("{user} fivetuple run --config.check --config.file={CONFIGURATION} --interface lo"));
    assert!(said.contains("the configuration is valid"), "{said}");
    let said = host.sh("systemd-analyze verify --man=no fivetuple.service fivetuple-pins.service");
    assert!(!said.contains("fivetuple"), "{said}");
    host.sh("gzip -t /usr/share/man/man1/fivetuple*.1.gz; bash -n /usr/share/bash-completion/completions/fivetuple");
}
