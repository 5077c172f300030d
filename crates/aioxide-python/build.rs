//! Tells the compiler which Python it builds for: `cfg(Py_GIL_DISABLED)` and its like.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
