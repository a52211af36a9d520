//! These programs bring their own entry point, so the C start files and libraries stay out.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
