# Sourced by tools/cargo and tools/host-cargo: chooses the Rust toolchain, and installs it where it is missing.
# rustup's, pinned by rust-toolchain.toml, where there is a rustup; else the distribution's own (on Debian 12 rustc-web,
# cargo-web and rust-web-src, which are new enough). Expects $root to be Keel's folder.

oldest_minor=95 # Rust 1.95: the first with what Keel uses
# With the certificates that cargo checks the crates' registry by: a bare Debian has none.
distribution_packages=(rustc-web cargo-web rust-web-src rustfmt-web rust-web-clippy gcc libc6-dev ca-certificates)

# True when the rustc that PATH finds is new enough and has the sources of core and alloc.
rustc_fits() {
    local version sysroot
    version=$(rustc --version 2>/dev/null) && sysroot=$(rustc --print sysroot 2>/dev/null) || return 1
    version=${version#rustc 1.}
    [ "${version%%.*}" -ge "$oldest_minor" ] 2>/dev/null || return 1
    [ -e "$sysroot/lib/rustlib/src/rust/library/core/src/lib.rs" ] && command -v cargo >/dev/null
}

choose_toolchain() {
    export RUSTC_BOOTSTRAP=1 # core and alloc are built for our own target, with a stable compiler
    if command -v rustup >/dev/null; then
        RUSTUP_TOOLCHAIN=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
        export RUSTUP_TOOLCHAIN
        rustc_fits && return
        echo "Installing Rust $RUSTUP_TOOLCHAIN with its sources by rustup" >&2
        rustup toolchain install "$RUSTUP_TOOLCHAIN" --profile minimal \
            --component rust-src --component rustfmt --component clippy >&2 && rustc_fits && return
        echo "rustup could not install it; turning to the distribution's Rust" >&2
        unset RUSTUP_TOOLCHAIN
    fi
    PATH=/usr/bin:$PATH
    rustc_fits && return
    "$root/tools/need" --packages "${distribution_packages[@]}" && rustc_fits && return
    # Package lists that are old, as on a machine just installed, offer a compiler that is old as well.
    "$root/tools/need" --update && "$root/tools/need" --packages "${distribution_packages[@]}" && rustc_fits && return
    {
        echo "Keel needs Rust 1.$oldest_minor or newer, with cargo and the standard library's sources. Either"
        echo "  install rustup, then: rustup toolchain install (in this folder)"
        echo "or, on Debian 12: sudo apt-get update && sudo apt-get install ${distribution_packages[*]}"
    } >&2
    exit 1
}
