#!/usr/bin/env bash
# Everything that is judged without running: formatting, circles, clippy, documentation, shell scripts. Any warning fails.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$root/scripts/wasm-toolchain.sh"

need_rust
say "formatting"
cargo fmt --all --check
say "circles between modules, crates and folders"
have python3 || apt_install "Python 3" python3
python3 -B "$root/scripts/test_circles.py" --quiet
python3 "$root/scripts/circles.py" "$root"
say "clippy: every crate, tests too"
cargo clippy --locked --workspace --all-targets -- -D warnings

(
    need_wasm_toolchain
    need_wasm_clippy
    say "clippy: the modules, for wasm ($wasm_toolchain)"
    mapfile -t crates < <(wasm_modules | sed 's/$/-wasm/')
    # As `cargo clippy` does it, with the clippy of the compiler that made the wasm library: it reads no other's.
    RUSTC_WORKSPACE_WRAPPER=$wasm_clippy CARGO_ENCODED_RUSTFLAGS=$(encode_flags "${wasm_rustflags[@]}" -Dwarnings) \
        cargo check --locked --target "$wasm_target" "${crates[@]/#/--package=}"
)

say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

if have shellcheck; then
    say "shell scripts"
    shellcheck -x -P "$root/scripts" "$root"/scripts/*.sh "$root/.ci/run"
else
    say "shell scripts: not checked, as shellcheck is not installed"
fi
say "lint: all good"
