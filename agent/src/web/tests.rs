//! Tests of the file in force: what is wrong at the start, and what a change of it does.

use super::*;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

/// A directory with a certificate (`a.crt`, `a.key`), and what a web configuration in it says.
struct Place {
    directory: tempfile::TempDir,
}

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

impl Place {
    fn new(web: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.certify(&certificate());
        place.write("web.yml", web);
        place
    }

    fn certify(&self, made: &CertifiedKey<KeyPair>) {
        self.write("a.crt", &made.cert.pem());
        self.write("a.key", &made.signing_key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("web.yml")
    }

    fn open(&self) -> Result<Live, ConfigError> {
        Live::open(&self.path())
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";

#[test]
fn certificates_are_checked_at_the_start() {
    let verify = "  client_auth_type: RequireAndVerifyClientCert\n";
    for (more, line, word) in [
        (String::new(), 0, ""),
        (format!("{verify}  client_ca_file: a.crt\n"), 0, ""),
        (verify.to_owned(), 0, ""),
        (
            format!("{verify}  client_ca_file: gone.pem\n"),
            5,
            "tls_server_config.client_ca_file: cannot read ",
        ),
        (format!("{verify}  client_ca_file: /dev/null\n"), 5, "client_ca_file: holds no certificate in PEM"),
        (format!("{verify}  client_ca: x\n"), 5, "client_ca: holds no certificate in PEM"),
    ] {
        let opened = Place::new(&format!("{TLS}{more}")).open().map(|_| ());
        match (line, opened) {
            (0, Ok(())) => {}
            (line, Err(e)) => {
                let text = e.to_string();
                assert!(text.contains(&format!("web.yml: line {line}: ")) && text.contains(word), "{text}");
            }
            (_, Ok(())) => panic!("{more} is taken"),
        }
    }
    for (key, name, line) in [("cert_file", "a.crt", 2), ("key_file", "a.key", 3)] {
        let place = Place::new(TLS);
        place.write(name, "-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n");
        let text = place.open().map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(&format!("line {line}: tls_server_config.{key}: holds no ")), "{text}");
        fs::remove_file(place.directory.path().join(name)).unwrap();
        let text = place.open().map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(&format!("line {line}: tls_server_config.{key}: cannot read ")), "{text}");
    }
    let place = Place::new(TLS);
    place.write("a.key", &certificate().signing_key.serialize_pem());
    let text = place.open().map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("line 3: tls_server_config.key_file: the key cannot be used with the"), "{text}");
    let text = Live::open(Path::new("/nonexistent.yml")).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("/nonexistent.yml") && text.contains("--web.config.file"), "{text}");
}

#[test]
fn text_in_the_file_itself_is_as_good() {
    let made = certificate();
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        indented(&made.cert.pem()),
        indented(&made.signing_key.serialize_pem())
    );
    assert!(Place::new(&text).open().unwrap().tls().unwrap().is_some());
}

#[test]
fn a_change_is_in_force_at_once() {
    let place = Place::new("rate_limit: {interval: 1s, burst: 1}");
    let live = place.open().unwrap();
    assert_eq!(live.settings().unwrap().rate.unwrap().burst, 1);
    place.write("web.yml", "rate_limit: {interval: 1s, burst: 2}");
    assert_eq!(live.settings().unwrap().rate.unwrap().burst, 2, "of the same size, at almost the same time");
    place.write("web.yml", "rate_limit: {interval: x}");
    assert!(live.settings().is_err());
    place.write("web.yml", "");
    assert!(live.settings().is_err(), "an empty file may be half written");
    fs::remove_file(place.path()).unwrap();
    assert!(live.settings().is_err());
    place.write("web.yml", "{}");
    assert_eq!(live.settings().unwrap().rate, None);
    place.write("web.yml", TLS);
    assert!(live.settings().is_err(), "TLS is decided at the start");
}

#[test]
fn a_new_certificate_is_that_of_the_next_handshake() {
    let place = Place::new(TLS);
    let live = place.open().unwrap();
    let before = live.tls().unwrap().unwrap();
    let made = certificate();
    place.certify(&made);
    let after = live.tls().unwrap().unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    place.write("a.key", &certificate().signing_key.serialize_pem());
    assert!(live.tls().is_err(), "a key of another certificate");
    place.certify(&made);
    assert!(live.tls().is_ok());
    place.write("web.yml", "{}");
    assert!(live.tls().is_err() && live.settings().is_err(), "TLS does not end while the agent runs");
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let place = Place::new(TLS);
    let live = place.open().unwrap();
    // Until the files have their age, they are read each time.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let [first, second] = [live.tls().unwrap().unwrap(), live.tls().unwrap().unwrap()];
        if Arc::ptr_eq(&first, &second) {
            assert!(Arc::ptr_eq(&live.settings().unwrap(), &live.settings().unwrap()));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "read again and again");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}
