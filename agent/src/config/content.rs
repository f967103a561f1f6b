//! What a key of a configuration holds: a text, or the file that the text is in. Certificates and keys, in PEM, and
//! passwords.

use super::file::Problem;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// A file of certificates has kilobytes; a large one was named by mistake.
const MOST_BYTES: u64 = 4 << 20;

/// A text, with where it stands in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The key, as a path.
    pub key: String,
    /// The key's line.
    pub line: u64,
    /// The text.
    pub source: Source,
}

/// Where a text is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// In the configuration itself.
    Inline(String),
    /// In a file of its own.
    File(PathBuf),
}

/// Not with the text, which may be secret.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("key", &self.key).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Content {
    /// Something is wrong with it.
    pub fn problem(&self, text: impl Into<String>) -> Problem {
        Problem { line: self.line, key: self.key.clone(), text: text.into() }
    }

    /// The file that it is in.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Inline(_) => None,
        }
    }

    /// The text.
    pub fn read(&self) -> Result<Vec<u8>, Problem> {
        let path = match &self.source {
            Source::Inline(text) => return Ok(text.clone().into_bytes()),
            Source::File(path) => path,
        };
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|e| self.problem(format!("cannot read {}: {e}", path.display())))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(self.problem(format!("{} has more than {MOST_BYTES} bytes", path.display())));
        }
        Ok(bytes)
    }

    /// The certificates in it, one at least.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let text = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let all = all.map_err(|e| self.problem(format!("is not in PEM: {e}")))?;
        if all.is_empty() {
            return Err(self.problem("holds no certificate in PEM"));
        }
        Ok(all)
    }

    /// The private key in it.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| self.problem("holds no private key in PEM (one that is encrypted cannot be used)"))
    }
}
