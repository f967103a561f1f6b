//! Random conversations of a small TCP that knows the truth, watched by the core.
//!
//! [`end`] is one end, [`world`] both and the way between them, [`truth`] what each packet is, [`point`] the core,
//! [`cases`] where conversations come from. A failing case is printed cut down; `PROPTEST_CASES` and
//! `PROPTEST_RNG_SEED` make more and other cases.

mod cases;
mod end;
mod point;
mod properties;
mod truth;
mod world;
