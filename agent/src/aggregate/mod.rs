//! From what the kernel counted to what is shown. Pure: nothing here asks the kernel for anything.
//!
//! [`snapshot`] holds the figures of a moment and [`metrics`] shows them; [`rows`] and [`events`] show single
//! connections, chosen by a [`filter`]; [`inside`] compares points of this host.

pub mod events;
pub mod filter;
pub mod foreign;
pub mod inside;
pub mod metrics;
pub mod rows;
mod seen;
pub(crate) mod series;
pub mod shown;
pub mod snapshot;
mod waiting;

use crate::config::{OTHER_SERVICE, Watch};
use shown::Shown;

/// Names of what the kernel knows by numbers, and how much of addresses is shown with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The points.
    pub points: Vec<String>,
    /// The services; number 0 has all servers without one of their own.
    pub services: Vec<String>,
    /// What is shown of addresses.
    pub shown: Shown,
}

impl Names {
    /// Of a capture: its one point, and the services of a configuration.
    pub fn of_capture(point: &str, watch: &Watch) -> Self {
        let services = watch.services.iter().map(|service| service.name.clone());
        let services = std::iter::once(OTHER_SERVICE.to_owned()).chain(services).collect();
        Self { points: vec![point.to_owned()], services, shown: Shown::default() }
    }

    /// The point of a number.
    pub fn point(&self, number: u8) -> String {
        self.points.get(usize::from(number)).cloned().unwrap_or_default()
    }

    /// The service of a number.
    pub fn service(&self, number: u16) -> String {
        self.services.get(usize::from(number)).cloned().unwrap_or_default()
    }
}
