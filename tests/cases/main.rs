//! The two cases: that their worlds play what happened, for the reason it happened, and know the truth about it.

mod bank_g;
mod campus_card;
mod locate;
