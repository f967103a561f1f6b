//! Two incidents of a payment gateway, played again by everybody who took part in them: real kernels, real sockets,
//! real segments, and each actor's own record of what happened to every payment.
//!
//! [`campus_card`]: a firewall reorders requests, and a WAF swallows those it got out of order. [`bank_g`]: five-tuples
//! come back to proxies that still hold them in TIME-WAIT.
//!
//! Every wire of a world passes one namespace, as every wire of a gateway room passes one rack: each [`Point`] is an
//! interface there. One agent can watch them all, or one agent each, which then reach each other over loopback.

pub mod bank_g;
pub mod campus_card;
mod http;
mod rack;

pub use bank_g::BankG;
pub use campus_card::CampusCard;

use crate::netns::NetNs;

/// A place where an agent or a capture can stand.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What the case calls it.
    pub name: &'static str,
    /// The namespace of the interface.
    pub namespace: &'a NetNs,
    /// The interface, whose both directions are the wire's.
    pub interface: &'static str,
}

/// The `interfaces` of an agent's configuration that watches these points under their names.
pub fn interfaces(points: &[Point<'_>]) -> String {
    let entries = points
        .iter()
        .map(|Point { name, interface, .. }| format!("  - name: {interface}\n    point: {name}\n"));
    format!("interfaces:\n{}", entries.collect::<String>())
}
