//! Tells the compiler which Python it builds for: `cfg(Py_GIL_DISABLED)` and its like; and whether
//! it builds with a profile: `cfg(profiled)`.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo::rustc-check-cfg=cfg(profiled)");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if flags.contains("profile-use=") {
        println!("cargo::rustc-cfg=profiled");
    }
}
