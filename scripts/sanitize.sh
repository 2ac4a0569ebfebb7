#!/usr/bin/env bash
# The native library under AddressSanitizer and its leak checker, with an Envoy played by a test that makes each callback
# fail. Sanitizers are unstable in rustc, hence RUSTC_BOOTSTRAP.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
cd "$root"
target=$(rustc -vV | sed -n 's/^host: //p')
say "AddressSanitizer: the native library"
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_stack_use_after_return=1 \
    cargo test --locked --target "$target" --target-dir "$build_dir/sanitize" -p tollgate-native-host
