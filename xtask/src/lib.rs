//! Library half of the developer verbs.
