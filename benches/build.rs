//! Notes which compiler builds the benches, for the head of the table.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| String::from("rustc"));
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| String::from("rustc of unknown version"));
    println!("cargo::rustc-env=DOGPILE_BENCHES_RUSTC={}", version.trim());
    let profile = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=DOGPILE_BENCHES_OPT_LEVEL={profile}");
}
