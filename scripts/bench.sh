#!/usr/bin/env bash
# Measures what the filters cost beside bare Envoy. QUICK=1: a short run. Arguments go to the bench:
#   make bench                                      all rows, with one kind of request
#   make bench ARGS=--sizes                         by the size of a request's body
#   make bench ARGS=--streams                       by the event of a streamed answer
#   make bench ARGS=--workers                       by the number of Envoy's workers
#   make bench ARGS="--rows floor,key-auth-1k"      these rows only; also behind the others
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "${ENVOY_RUNTIME:-}" != docker ] || die "the bench measures a process: leave ENVOY_RUNTIME out, or set ENVOY_BIN=/path"
have taskset || apt_install "taskset" util-linux
"$root/scripts/setup-envoy.sh"
"$root/scripts/wasm.sh"
"$root/scripts/native.sh"
"$root/scripts/wasm.sh" --into "$root/target/bench" \
    tollgate-bench-floor tollgate-bench-floor-thin tollgate-bench-floor-chain tollgate-bench-identity

need_rust
cd "$root"
say "the bench's own library"
cargo build --locked --profile native -p tollgate-bench-floor-native
cp "$build_dir/native/libtollgate_bench_floor_native.so" "$root/target/bench/"
say "the bench's own program"
cargo build --locked --profile bench-tools -p tollgate-bench
quick=()
[ -z "${QUICK:-}" ] || quick=(--quick)
exec "$build_dir/bench-tools/tollgate-bench" --root "$root" --modules target/bench \
    --envoy "${ENVOY_BIN:-$tools_dir/envoy}" "${quick[@]}" "$@"
