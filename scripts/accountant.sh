#!/usr/bin/env bash
# The accountant at its full length, or as ACCOUNTANT_REQUESTS and ACCOUNTANT_SEED say. TOLLGATE_FORM=gateway: the one
# module.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/wasm.sh"
"$root/scripts/setup-envoy.sh"
need_rust
have python3 || apt_install "Python 3" python3
cd "$root"
ACCOUNTANT_REQUESTS=${ACCOUNTANT_REQUESTS:-10000} \
    cargo test --locked -p tollgate-harness --test accountant -- --nocapture
