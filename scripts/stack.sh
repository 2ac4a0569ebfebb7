#!/usr/bin/env bash
# `stack.sh run|demo|demo-fleet [ARG...]`: model servers, control plane and Envoy with the repository's own configuration.
# `FORM=gateway stack.sh run`: the three filters as one module; FORM=native: from the native library.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/setup-envoy.sh"
export TOLLGATE_FORM=${FORM:-${TOLLGATE_FORM:-chain}}
[ "$TOLLGATE_FORM" = chain ] || [ "${1:-}" != demo ] || die "the tour edits the files of three modules: leave FORM out"
case $TOLLGATE_FORM in
chain | gateway) "$root/scripts/wasm.sh" ;;
native) "$root/scripts/native.sh" ;;
*) die "FORM=$TOLLGATE_FORM is unknown: say chain, gateway or native, or leave it out" ;;
esac
# The tour of `demo` calls the gateway with the real OpenAI SDK.
[ "${1:-}" = demo ] && "$root/scripts/setup-python.sh"
# The books of a fleet's limits are there; without it the control plane has them in its database.
[ "${1:-}" != demo-fleet ] || "$root/scripts/setup-redis.sh" || warn "going on without Redis"
need_rust
cd "$root"
cargo build --locked -p tollgate-stack --bin stack -p tollgate-cli --bin tollgate
# In place of this shell, so that Ctrl-C and the exit status are the stack's own.
exec "$build_dir/debug/stack" "$@"
