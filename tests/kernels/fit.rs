//! `fivetuple check` has nothing against this kernel, and the kernel nothing against the programs.

use harness::Pair;
use harness::agent::run_to_end;

#[test]
fn it_is_found_fit_and_takes_every_program() {
    let pair = Pair::new();
    let output = run_to_end(&pair.right, &["check", "--interface", "eth0"]);
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("the kernel takes the programs, and their tables fit"), "{said}");
}
