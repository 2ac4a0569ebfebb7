#!/usr/bin/env bash
# Envoy with the native library is killed again and again under requests that end in every way: each that had begun has one
# usage record. `scripts/crash.sh [TIMES]`
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

times=${1:-500}
[[ $times =~ ^[1-9][0-9]{0,4}$ ]] || die "not a number of times: \`$times\`; type \`scripts/crash.sh 50\`"
"$root/scripts/native.sh"
"$root/scripts/setup-envoy.sh"
need_rust
cd "$root"
say "$times kills"
TOLLGATE_FORM=native CRASHES=$times cargo test --locked -p tollgate-harness --test endings whenever_envoy_is_killed -- --nocapture
