#!/usr/bin/env bash
# Everything that is judged without running: formatting, clippy, documentation, shell scripts. Any warning fails.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$root/scripts/wasm-toolchain.sh"

need_rust
say "formatting"
cargo fmt --all --check
say "clippy: every crate, tests too"
cargo clippy --locked --workspace --all-targets -- -D warnings

(
    need_wasm_toolchain
    if [ "$wasm_toolchain" = rustup ]; then
        say "clippy: the modules, for wasm"
        mapfile -t modules < <(wasm_modules)
        cargo clippy --locked --target "$wasm_target" "${modules[@]/#/--package=}" -- -D warnings
    else
        # Clippy reads only a library that its own compiler made; the modules were looked at above, for this machine.
        say "clippy: not for wasm, as the wasm library here is Debian's"
    fi
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
