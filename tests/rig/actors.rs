//! The TCP actors behave as they are named.
