//! Where figures come from: the kernel's maps and its ring.
//!
//! [`maps`] are the tables, [`ring`] brings records, [`sweep`] ends what fell silent, [`services`] says which
//! entries make the services.

pub mod maps;
pub mod ring;
pub mod services;
pub mod sweep;
