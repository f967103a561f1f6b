//! `ci`: what a pull request has to pass.

use anyhow::Result;

use crate::{build, test, unknown_argument};

/// Every stage of `test`, and the build that users get.
pub fn verb(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        return Err(unknown_argument("ci", arg));
    }
    test::verb(&[])?;
    build::verb(&[])
}
