//! The image's recipe, as far as it can be judged without a container engine.

use xtask::sh;

const RECIPE: &str = include_str!("../../docker/Dockerfile");

#[test]
fn it_is_of_this_version_and_compiler() {
    assert!(RECIPE.contains(concat!("\nARG VERSION=", env!("CARGO_PKG_VERSION"), "\n")));
    let compiler = concat!("FROM rust:", env!("CARGO_PKG_RUST_VERSION"), "-");
    assert!(RECIPE.contains(compiler), "{compiler}");
}

#[test]
fn what_it_copies_is_there() {
    for file in ["packaging/fivetuple.yaml", "README.md"] {
        assert!(RECIPE.contains(&format!(" {file}")) && sh::root().join(file).is_file(), "{file}");
    }
}
