#!/usr/bin/env bash
# Requests that end in every way, and reloads, for an hour: what Envoy holds in memory stays what it was, and each request
# has one record. `scripts/soak.sh [SECONDS]`, with the native library; TOLLGATE_FORM=gateway: the one module, chain: the
# three modules.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-3600}
[[ $seconds =~ ^[1-9][0-9]{1,5}$ ]] || die "not a number of seconds, 10 or more: \`$seconds\`; type \`scripts/soak.sh 600\`"
form=${TOLLGATE_FORM:-native}
if [ "$form" = native ]; then "$root/scripts/native.sh"; else "$root/scripts/wasm.sh"; fi
"$root/scripts/setup-envoy.sh"
need_rust
cd "$root"
say "$form: $seconds seconds"
TOLLGATE_FORM=$form SOAK_SECONDS=$seconds cargo test --locked -p tollgate-harness --test endings memory_stays_flat -- --nocapture
