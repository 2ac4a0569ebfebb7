#!/usr/bin/env bash
# `stack.sh run|demo [ARG...]`: model servers and Envoy with the repository's own configuration.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/setup-envoy.sh"
"$root/scripts/wasm.sh"
# The tour of `demo` calls the gateway with the real OpenAI SDK.
[ "${1:-}" = demo ] && "$root/scripts/setup-python.sh"
need_rust
cd "$root"
cargo build --locked -p tollgate-stack --bin stack
# In place of this shell, so that Ctrl-C and the exit status are the stack's own.
exec "$build_dir/debug/stack" "$@"
