#!/usr/bin/env bash
# Measures the control plane with a million keys, or as many as are named, on both databases: for docs/performance.md.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/setup-postgres.sh"
need_rust
cd "$root"
TOLLGATE_KEYS=${1:-1000000} exec cargo test --locked --profile bench-tools -p tollgate-cli --test million -- \
    --nocapture --test-threads=1
