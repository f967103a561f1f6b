//! What a run found, for people and for programs: tables, figures one by one, pictures.

pub mod figure;
pub mod plot;
pub mod sample;
pub mod svg;
pub mod table;
