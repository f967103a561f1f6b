//! What an operator's platform expects: packages that install, upgrade and leave without a trace, a unit that a service
//! manager holds safe, a chart that is whole. Nothing is changed on the host: packages go into a copy of it.

mod chart;
mod deb;
mod first_page;
#[cfg(feature = "helm")]
mod helm;
mod host;
mod image;
mod package;
mod rpm;
mod unit;
