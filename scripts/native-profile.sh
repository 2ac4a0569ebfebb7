#!/usr/bin/env bash
# Records which code of the native library is hot, filters/native/gateway.profdata, by which native.sh builds it: under load,
# and through tests of what is refused, broken off or tried again. About fifteen minutes. To be done when the compiler or
# much of the filters' code has changed; native.sh fails when the profile hardly fits any more.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
merge=$(rustc --print target-libdir)/../bin/llvm-profdata
[ -x "$merge" ] || { have rustup && rustup component add llvm-tools >&2; } ||
    die "llvm-profdata is missing: type \`rustup component add llvm-tools\`"
QUICK=1 "$root/scripts/bench.sh" --rows library
cd "$root"

say "a library that counts"
counts=$build_dir/native-profile
rm -rf "$counts/raw"
CARGO_ENCODED_RUSTFLAGS="-Cprofile-generate=$counts/raw" RUSTC_WRAPPER="$root/scripts/rustc-stable-names.sh" \
    cargo build --locked --profile native --target "$(uname -m)-unknown-linux-gnu" --target-dir "$counts" -p tollgate-native
# The plain one comes back, however this ends.
trap '"$root/scripts/native.sh"' EXIT
cp "$counts/$(uname -m)-unknown-linux-gnu/native/libtollgate.so" dist/.libtollgate.so.new
mv dist/.libtollgate.so.new dist/libtollgate.so

say "load"
bench() {
    "$build_dir/bench-tools/tollgate-bench" --root "$root" --modules target/bench --envoy "${ENVOY_BIN:-$tools_dir/envoy}" \
        --quick --rows library "$@"
}
bench
bench --streams
bench --sizes
say "what goes wrong"
TOLLGATE_FORM=native cargo test --locked --no-fail-fast --workspace \
    --test auth_contract --test bodies --test endings --test fallback --test limits --test limits_hostile ||
    warn "some of these tests failed; the library that counts is slower than the one that is for them"

"$merge" merge --sparse --output filters/native/gateway.profdata "$counts"/raw/*.profraw
say "filters/native/gateway.profdata: $(stat --format=%s filters/native/gateway.profdata) bytes"
