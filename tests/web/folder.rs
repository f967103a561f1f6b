//! A folder with everything that a web configuration names, the agent that runs by it, and curl.

use std::fs;
use std::path::PathBuf;

use harness::agent::{Agent, DEADLINE, Launch};
use harness::{NetNs, Pair, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// A user, the password, and its hash as another program made it (a test vector of jBCrypt).
pub const USER: &str = "scraper";
/// See [`USER`].
pub const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";
/// See [`USER`].
pub const HASH: &str = "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC";

/// Who signs certificates.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// A new authority of this name.
pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are right");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key()).expect("a certificate can be signed")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

/// The folder.
pub struct Folder {
    directory: tempfile::TempDir,
    /// Who signed the server's certificate, and those of the clients that are let in.
    pub authority: Authority,
}

impl Folder {
    /// With `ca.pem`, and `server` signed by it.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let folder = Self { directory, authority: authority("ours") };
        folder.write("ca.pem", &folder.authority.pem());
        folder.certify("server", &["127.0.0.1", "localhost"], &folder.authority);
        folder
    }

    /// Signs a certificate for these names: `NAME.pem` and `NAME.key`. A URI has `://` in it, a mail address `@`.
    pub fn certify(&self, name: &str, names: &[&str], by: &Authority) {
        let plain = |n: &&&str| !n.contains("://") && !n.contains('@');
        let names_of = names.iter().filter(plain).map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names_of).expect("the names are right");
        for other in names.iter().filter(|n| !plain(n)) {
            let text = (*other).try_into().expect("the name is ASCII");
            params.subject_alt_names.push(if other.contains('@') {
                SanType::Rfc822Name(text)
            } else {
                SanType::URI(text)
            });
        }
        params.distinguished_name.push(DnType::CommonName, name);
        let key = key();
        let certificate = params.signed_by(&key, by).expect("a certificate can be signed");
        // The key first, as most tools do; a handshake in between must not be believed by a test.
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate.pem());
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a temporary file can be written");
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the web configuration: TLS with the server's certificate and these lines, and more sections.
    pub fn configure(&self, tls: &str, more: &str) {
        let lines: String = tls.lines().map(|line| format!("  {line}\n")).collect();
        let text =
            format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{lines}{more}");
        self.write("web.yml", &text);
    }

    /// Starts the agent by the configuration that was written, and waits until it answers at all.
    pub fn start<'a>(&self, world: &'a Pair) -> Agent<'a> {
        let agent = Launch::interfaces(&["eth0"])
            .argument(format!("--web.config.file={}", self.path("web.yml").display()))
            .spawn(&world.left);
        eventually(DEADLINE, "the agent to listen", || {
            let asked = Curl::new(self, &agent, &world.left).ask("/-/ready");
            if asked.reached() { Ok(()) } else { Err(format!("{asked:?}\n{}", agent.log().join("\n"))) }
        });
        agent
    }
}

/// What curl is told.
#[derive(Clone)]
pub struct Curl<'a> {
    folder: &'a Folder,
    agent: &'a Agent<'a>,
    namespace: &'a NetNs,
    arguments: Vec<String>,
}

/// What curl says.
#[derive(Debug)]
pub struct Answer {
    /// curl's own exit code; 0 where there was an answer.
    pub exit: i32,
    /// The status, 0 where there was no answer.
    pub status: u16,
    /// The version of HTTP.
    pub version: String,
    /// Head and body.
    pub text: String,
}

impl Answer {
    /// Whether somebody was there: all but a refused connection.
    fn reached(&self) -> bool {
        self.exit != 7
    }
}

impl<'a> Curl<'a> {
    /// A client that trusts the folder's authority and shows nothing of itself.
    pub fn new(folder: &'a Folder, agent: &'a Agent<'a>, namespace: &'a NetNs) -> Self {
        Self { folder, agent, namespace, arguments: Vec::new() }
    }

    /// Shows this certificate.
    pub fn showing(self, name: &str) -> Self {
        let [pem, key] =
            ["pem", "key"].map(|end| self.folder.path(&format!("{name}.{end}")).display().to_string());
        self.with(&["--cert", &pem, "--key", &key])
    }

    /// Names the user, with this password.
    pub fn password(self, password: &str) -> Self {
        let user = format!("{USER}:{password}");
        self.with(&["--user", &user])
    }

    /// More arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Asks over TLS.
    #[track_caller]
    pub fn ask(&self, page: &str) -> Answer {
        self.ask_by("https", page)
    }

    /// Asks.
    #[track_caller]
    pub fn ask_by(&self, scheme: &str, page: &str) -> Answer {
        let mut command = self.namespace.cmd("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]);
        command.arg("--cacert").arg(self.folder.path("ca.pem"));
        command.args(["--write-out", "\n%{http_code} %{http_version}"]).args(&self.arguments);
        command.arg(format!("{scheme}://{}{page}", self.agent.web()));
        let output = command.output().expect("curl is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, last) = said.rsplit_once('\n').unwrap_or(("", ""));
        let (status, version) = last.split_once(' ').unwrap_or(("0", ""));
        let text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        Answer {
            exit: output.status.code().unwrap_or(-1),
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            text,
        }
    }
}
