//! The form in which it is written, which is that of Prometheus's `http_config`: its keys, and what may be wrong with them.

use super::try_out;
use crate::config::{
    content::{Content, Source},
    file::{Problem, shaped},
};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::Path;

/// How is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Authorities of servers' certificates; without it the host's own.
    pub ca: Option<Content>,
    /// The certificate that is shown, and its key.
    pub identity: Option<(Content, Content)>,
    /// The name that a server's certificate must have; without it the one of its address.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
    /// A user and the password.
    pub basic_auth: Option<(String, Content)>,
}

impl Settings {
    /// All files that it is made of.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (cert, key) = self.identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let password = self.basic_auth.as_ref().map(|(_, password)| password);
        [self.ca.as_ref(), cert, key, password].into_iter().flatten().filter_map(Content::path)
    }
}

type Text = Option<Spanned<String>>;

/// `http_config` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    tls_config: Option<RawTls>,
    basic_auth: Option<Spanned<RawBasicAuth>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    ca: Text,
    ca_file: Text,
    cert: Text,
    cert_file: Text,
    key: Text,
    key_file: Text,
    server_name: Text,
    insecure_skip_verify: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBasicAuth {
    username: Text,
    password: Text,
    password_file: Text,
}

/// Reads a whole file of it; paths in it are relative to `directory`.
pub fn parse(text: &str, directory: &Path) -> Result<Settings, Vec<Problem>> {
    let raw: Raw = shaped(text).map_err(|problem| vec![problem])?;
    raw.read("", directory)
}

impl Raw {
    /// What it says, with every file that it names tried out. `at` precedes the keys in what is said of them.
    pub fn read(&self, at: &str, directory: &Path) -> Result<Settings, Vec<Problem>> {
        let mut reader = Reader { at, directory, problems: Vec::new() };
        let mut settings = Settings::default();
        if let Some(tls) = &self.tls_config {
            reader.tls(tls, &mut settings);
        }
        settings.basic_auth = self.basic_auth.as_ref().and_then(|auth| reader.basic_auth(auth));
        if reader.problems.is_empty()
            && let Err(problem) = try_out(&settings)
        {
            reader.problems.push(problem);
        }
        if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
    }
}

struct Reader<'a> {
    at: &'a str,
    directory: &'a Path,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn refuse<T>(&mut self, key: &str, at: &Spanned<T>, text: impl Into<String>) {
        let key = format!("{}{key}", self.at);
        self.problems.push(Problem { line: at.referenced.line(), key, text: text.into() });
    }

    fn tls(&mut self, raw: &RawTls, settings: &mut Settings) {
        settings.ca = self.content("tls_config.", ("ca", &raw.ca), ("ca_file", &raw.ca_file));
        let cert = self.content("tls_config.", ("cert", &raw.cert), ("cert_file", &raw.cert_file));
        let key = self.content("tls_config.", ("key", &raw.key), ("key_file", &raw.key_file));
        match (cert, key) {
            (Some(cert), Some(key)) => settings.identity = Some((cert, key)),
            (Some(cert), None) => {
                self.problems.push(cert.problem("its key is missing; write key_file, too"));
            }
            (None, Some(key)) => {
                self.problems.push(key.problem("its certificate is missing; write cert_file, too"));
            }
            (None, None) => {}
        }
        if let Some(at) = raw.server_name.as_ref().filter(|at| !at.value.is_empty()) {
            if ServerName::try_from(at.value.as_str()).is_err() {
                let text = format!(
                    "{:?} is neither a name nor an address; write it as in the certificate",
                    at.value
                );
                self.refuse("tls_config.server_name", at, text);
            }
            settings.server_name = Some(at.value.clone());
        }
        settings.insecure_skip_verify = raw.insecure_skip_verify;
    }

    fn basic_auth(&mut self, at: &Spanned<RawBasicAuth>) -> Option<(String, Content)> {
        let raw = &at.value;
        let password =
            self.content("basic_auth.", ("password", &raw.password), ("password_file", &raw.password_file));
        let user = raw.username.as_ref().filter(|user| !user.value.is_empty());
        match user {
            None => self.refuse("basic_auth.username", at, "this key is missing"),
            // RFC 7617 section 2.
            Some(user) if user.value.contains(':') => {
                self.refuse(
                    "basic_auth.username",
                    user,
                    "a name with a colon cannot be told from the password",
                );
            }
            Some(_) => {}
        }
        if password.is_none() {
            self.refuse("basic_auth.password_file", at, "this key is missing; or write password");
        }
        Some((user?.value.clone(), password?))
    }

    /// A text, which is here or in a file.
    fn content(&mut self, of: &str, here: (&str, &Text), file: (&str, &Text)) -> Option<Content> {
        let there = |text: &Text| text.as_ref().filter(|text| !text.value.is_empty()).cloned();
        let content =
            |name: &str, line, source| Content { key: format!("{}{of}{name}", self.at), line, source };
        match (there(here.1), there(file.1)) {
            (Some(_), Some(path)) => {
                self.refuse(
                    &format!("{of}{}", file.0),
                    &path,
                    format!("{} is here, too; keep one of the two", here.0),
                );
                None
            }
            (None, Some(path)) => {
                let source = Source::File(self.directory.join(&path.value));
                Some(content(file.0, path.referenced.line(), source))
            }
            (Some(text), None) => Some(content(here.0, text.referenced.line(), Source::Inline(text.value))),
            (None, None) => None,
        }
    }
}
