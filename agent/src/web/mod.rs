//! The web configuration file (`--web.config.file`): TLS, clients' certificates, passwords, headers, a rate limit.
//!
//! Its format is that of Prometheus's exporter toolkit ([`file`]). It is in force as it stands: looked at for each
//! request ([`Live::settings`]), with the certificates for each handshake ([`Live::tls`]), and read where it has
//! changed. A file that is wrong lets nobody in: it says who may, and what it said before is no longer what the operator
//! wants.

pub mod auth;
mod client;
pub mod file;
pub mod limit;
mod offer;
mod reader;
mod tls;

use crate::{
    config::{ConfigError, file::Problem},
    stamp::{Stamp, Stamps},
};
use file::{ClientAuth, Web};
use rustls::ServerConfig;
use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{error, info};

/// The file, as it stands now.
pub struct Live {
    path: PathBuf,
    /// As it was at the start. Whether TLS is spoken does not change: a file half written must not end it.
    access: Access,
    /// Whether it had nothing in it at the start.
    began_blank: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    read: Option<(Stamp, Arc<Web>)>,
    made: Option<Made>,
    /// What was said last about a file that is wrong, and about its TLS: once is enough.
    complaints: [String; 2],
}

/// A TLS configuration, and what it was made of.
struct Made {
    web: Arc<Web>,
    stamps: Stamps,
    config: Arc<ServerConfig>,
}

/// What stands between a client and the answers, at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether a password or a valid certificate is needed.
    pub guarded: bool,
    /// Whether certificates are valid that any of the host's own authorities has signed.
    pub publicly: bool,
}

/// The file is wrong, or cannot be read. The log says how; a client need not know.
#[derive(Debug)]
pub struct Wrong;

impl Live {
    /// Read and check all of it, certificates included.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let (web, began_blank) = read(path)?;
        if let Some(tls) = &web.tls {
            tls::server_config(tls).map_err(|p| ConfigError::Invalid(path.to_owned(), vec![p]))?;
        }
        let certified = web.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::RequireAndVerify);
        let publicly = web.tls.as_ref().is_some_and(|t| t.client_auth.verifies() && t.client_ca.is_none());
        let guarded = certified || !web.users.is_empty();
        let access = Access { tls: web.tls.is_some(), guarded, publicly };
        Ok(Self { path: path.to_owned(), access, began_blank, state: Mutex::default() })
    }

    /// What it asked of clients at the start.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What it says now.
    pub fn settings(&self) -> Result<Arc<Web>, Wrong> {
        let mut state = self.state();
        let settings = self.current(&mut state);
        told(&mut state.complaints[0], &self.path, settings)
    }

    /// What a handshake that begins now is made with; nothing where no TLS is spoken.
    pub fn tls(&self) -> Result<Option<Arc<ServerConfig>>, Wrong> {
        if !self.access.tls {
            return Ok(None);
        }
        let mut state = self.state();
        let made = self.made(&mut state);
        told(&mut state.complaints[1], &self.path, made)
    }

    fn current(&self, state: &mut State) -> Result<Arc<Web>, ConfigError> {
        if let Some((stamp, web)) = &state.read
            && stamp.holds(&self.path)
        {
            return Ok(web.clone());
        }
        // Before the reading: what is written meanwhile is read the next time.
        let stamp = Stamp::of(&self.path).map_err(|e| unreadable(&self.path, e))?;
        let (web, blank) = read(&self.path)?;
        let wrong = |key: &str, text: &str| {
            let problem = Problem { line: 0, key: key.to_owned(), text: text.to_owned() };
            Err(ConfigError::Invalid(self.path.clone(), vec![problem]))
        };
        if web.tls.is_some() != self.access.tls {
            let text = "came or went since the start, where TLS is decided on; restart the agent";
            return wrong("tls_server_config", text);
        }
        if blank && !self.began_blank {
            return wrong(
                "",
                "the file is empty, as one that is just being written; write {} to let everybody in",
            );
        }
        let web = Arc::new(web);
        state.read = Some((stamp, web.clone()));
        Ok(web)
    }

    fn made(&self, state: &mut State) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
        let web = self.current(state)?;
        let invalid = |problem| ConfigError::Invalid(self.path.clone(), vec![problem]);
        let Some(tls) = &web.tls else { return Ok(None) };
        if let Some(made) = &state.made
            && Arc::ptr_eq(&made.web, &web)
            && made.stamps.hold(tls::paths(tls))
        {
            return Ok(Some(made.config.clone()));
        }
        let stamps = Stamps::of(tls::paths(tls));
        let config = Arc::new(tls::server_config(tls).map_err(invalid)?);
        if let Some(stamps) = stamps {
            state.made = Some(Made { web: web.clone(), stamps, config: config.clone() });
        }
        Ok(Some(config))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells in the log what is wrong, once, and that it is right again.
fn told<T>(complaint: &mut String, path: &Path, result: Result<T, ConfigError>) -> Result<T, Wrong> {
    match result {
        Ok(value) => {
            if !mem::take(complaint).is_empty() {
                info!(path = %path.display(), "the web configuration is right again");
            }
            Ok(value)
        }
        Err(e) => {
            let text = e.to_string();
            if text != *complaint {
                error!(error = text, "the web configuration is wrong; nobody is let in until it is right");
                *complaint = text;
            }
            Err(Wrong)
        }
    }
}

/// What the file says, and whether it says nothing.
fn read(path: &Path) -> Result<(Web, bool), ConfigError> {
    let text = fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let web = file::parse(&text, directory).map_err(|p| ConfigError::Invalid(path.to_owned(), p))?;
    Ok((web, text.trim().is_empty()))
}

fn unreadable(path: &Path, error: io::Error) -> ConfigError {
    ConfigError::Unreadable("web.config.file", path.to_owned(), error)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
