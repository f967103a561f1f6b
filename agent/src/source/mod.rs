//! Where figures come from: the kernel's maps and its ring.
//!
//! [`maps`] are the tables, [`ring`] brings records, [`sweep`] ends what fell silent, [`closed`] forgets
//! five-tuples, [`services`] says which entries make the services. [`host`] keeps the same tables without a kernel, for frames that come from elsewhere.

pub mod closed;
pub mod host;
pub mod maps;
pub mod ring;
pub mod services;
pub mod slots;
pub mod sweep;
