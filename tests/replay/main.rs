//! `fivetuple replay`, and what else reads captures, on ones written from scripts: what is said of each packet and
//! connection, in what form, and with which exit code. No root is needed.
//!
//! What is expected stands beside what is sent, and follows from it: the scripts know what was lost, overtaken, copied
//! or sent again.

mod events;
mod explain;
mod locate;
mod malformed;
mod outcome;
mod phenomena;
mod replay;
mod report;
mod reuse;
