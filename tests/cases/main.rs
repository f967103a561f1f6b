//! The two cases: that their worlds play what happened, for the reason it happened, and know the truth about it.

mod bank_g;
mod bank_g_solved;
mod campus_card;
mod causes;
mod delays;
mod demo;
mod locate;
mod nat;
