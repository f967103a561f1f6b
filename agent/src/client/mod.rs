//! The one HTTP client: of the commands that ask an agent, and of the alerts that are told.
//!
//! How it asks is said in the form of Prometheus's `http_config` ([`settings`]): TLS, a certificate of its own, a
//! password. The files that it names are looked at for each request, and read where they have changed. TLS itself is
//! rustls, by way of ureq.

mod name;
pub mod remedy;
pub mod settings;
mod tls;

use crate::{
    cli::ClientArgs,
    config::{ConfigError, file::Problem},
    stamp::Stamps,
};
use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use name::Named;
use serde::de::DeserializeOwned;
use settings::Settings;
use std::{
    error::Error as _,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use ureq::{
    Agent, Body,
    http::Response,
    unversioned::{
        resolver::DefaultResolver,
        transport::{Connector as _, TcpConnector},
    },
};

/// An agent that does not answer within this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks and tells.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    timeout: Duration,
    /// With the files that it was made of.
    made: Mutex<Option<(Stamps, Made)>>,
}

/// What is asked with.
#[derive(Debug, Clone)]
struct Made {
    agent: Agent,
    authorization: Option<String>,
}

impl Client {
    /// Whoever does not answer within `timeout` has not.
    pub fn new(settings: Settings, timeout: Duration) -> Self {
        Self { settings, timeout, made: Mutex::default() }
    }

    /// As the flags of a command say.
    pub fn of(args: &ClientArgs) -> Result<Self, ConfigError> {
        let settings = match &args.file {
            None => Settings::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|e| ConfigError::Unreadable("http.config.file", path.clone(), e))?;
                let directory = path.parent().unwrap_or(Path::new(""));
                settings::parse(&text, directory)
                    .map_err(|problems| ConfigError::Invalid(path.clone(), problems))?
            }
        };
        Ok(Self::new(settings, TIMEOUT))
    }

    /// What the agent at an address answers to a question, read; `what` is how people call that, and `query` are names and
    /// values, where there are any.
    pub fn read<T: DeserializeOwned>(
        &self,
        agent: &str,
        path: &str,
        query: &[(&str, Option<String>)],
        what: &str,
    ) -> Result<T> {
        let query: Vec<_> = query.iter().filter_map(|(key, value)| Some((*key, value.clone()?))).collect();
        parse(&self.ask(agent, path, &query)?, agent, what)
    }

    /// What the agent at an address answers to a question, as it is; `query` are names and values.
    pub fn ask(&self, agent: &str, path: &str, query: &[(&str, String)]) -> Result<String> {
        let url = format!("{}{path}", agent.trim_end_matches('/'));
        let made = self.made().map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let mut request = made.agent.get(&url);
        if let Some(value) = &made.authorization {
            request = request.header("authorization", value);
        }
        for (key, value) in query {
            request = request.query(*key, value);
        }
        let mut answer = match request.call() {
            Ok(answer) => answer,
            Err(e) => {
                let why = because(&e);
                match remedy::of(&e, &url) {
                    Some(remedy) => bail!("cannot ask {url}: {why}; {remedy} (--http.config.file)"),
                    None => bail!(
                        "no agent answers at {url}: {why}; start one with `fivetuple run`, or name another address (--url, or --points of locate)"
                    ),
                }
            }
        };
        let status = answer.status();
        // Without a limit of its own ureq stops at 10 MB, which a full table exceeds.
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_string();
        let body = body.map_err(|e| anyhow::anyhow!("the answer of {url} broke off: {e}"))?;
        if status != 200 {
            let refusal: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let said = refusal["error"].as_str().unwrap_or(body.trim());
            let remedy = remedy::of_answer(status, &body)
                .map_or(String::new(), |remedy| format!("; {remedy} (--http.config.file)"));
            bail!("the agent at {url} refused ({status}): {said}{remedy}");
        }
        Ok(body)
    }

    /// Posts JSON. An answer is an answer, whatever its status.
    pub fn post(&self, url: &str, body: &[u8]) -> Result<Response<Body>, String> {
        let made = self.made().map_err(|problem| problem.to_string())?;
        let mut request = made.agent.post(url).content_type("application/json");
        if let Some(value) = &made.authorization {
            request = request.header("authorization", value);
        }
        request.send(body).map_err(|e| {
            let remedy =
                remedy::of(&e, url).map_or(String::new(), |remedy| format!("; {remedy} (http_config)"));
            format!("{}{remedy}", because(&e))
        })
    }

    fn made(&self) -> Result<Made, Problem> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamps, made)) = &*made
            && stamps.hold(self.settings.paths())
        {
            return Ok(made.clone());
        }
        // Before the reading: what is written meanwhile is read the next time.
        let stamps = Stamps::of(self.settings.paths());
        let fresh = Made {
            agent: agent(&self.settings, self.timeout)?,
            authorization: authorization(&self.settings)?,
        };
        *made = stamps.map(|stamps| (stamps, fresh.clone()));
        Ok(fresh)
    }
}

/// Reads what an agent answered.
pub fn parse<T: DeserializeOwned>(body: &str, agent: &str, what: &str) -> Result<T> {
    serde_json::from_str(body).with_context(|| {
        format!("{agent} answered something else than {what}; is it an agent of this version?")
    })
}

/// Whether all files can be read and fit together.
fn try_out(settings: &Settings) -> Result<(), Problem> {
    agent(settings, TIMEOUT)?;
    authorization(settings).map(|_| ())
}

fn agent(settings: &Settings, timeout: Duration) -> Result<Agent, Problem> {
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("fivetuple/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls::config(settings)?)
        .build();
    let connector = ().chain(TcpConnector::default()).chain(Named::new(settings.server_name.as_deref()));
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

/// The header of basic authentication (RFC 7617).
fn authorization(settings: &Settings) -> Result<Option<String>, Problem> {
    let Some((user, password)) = &settings.basic_auth else { return Ok(None) };
    let secret = password.read()?;
    // As Prometheus does: an editor ends a file with a line break, and a password does not have one.
    let pair = [user.as_bytes(), b":", secret.trim_ascii()].concat();
    Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(pair))))
}

fn because(error: &ureq::Error) -> String {
    let cause = error.source().map(ToString::to_string).filter(|cause| !error.to_string().contains(cause));
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests;
