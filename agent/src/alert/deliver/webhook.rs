//! A webhook: one POST for each alert that begins or ends. docs/alerts.md has the format, which is that of [`Alert`].

use super::{Failure, SinkSettings, Teller, http::Post};
use crate::alert::message::Alert;
use serde::Serialize;

/// The version of the format: it changes when a key changes its meaning or goes.
const VERSION: u32 = 1;

/// Tells a webhook.
#[derive(Debug)]
pub struct Webhook {
    post: Post,
}

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    #[serde(flatten)]
    alert: &'a Alert,
}

impl Webhook {
    /// At an address.
    pub fn new(to: &SinkSettings) -> Self {
        Self { post: Post::new(to, "") }
    }
}

impl Teller for Webhook {
    fn most(&self) -> usize {
        1
    }

    fn tell(&mut self, alerts: &[Alert]) -> Result<(), Failure> {
        alerts.iter().try_for_each(|alert| {
            let body = serde_json::to_vec(&Body { version: VERSION, alert });
            self.post.send(&body.map_err(|e| Failure::Never(e.to_string()))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{evidence::Evidence, message::tests::alert};

    /// The page explains each key that is sent.
    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../../docs/alerts.md");
        let mut alert = alert("card");
        alert.evidence.push(Evidence::default());
        let body = serde_json::to_value(Body { version: VERSION, alert: &alert }).unwrap();
        let evidence = body["evidence"][0].as_object().unwrap().keys();
        for key in body.as_object().unwrap().keys().chain(evidence) {
            assert!(page.contains(&format!("| `{key}` |")), "docs/alerts.md does not explain {key}");
        }
    }
}
