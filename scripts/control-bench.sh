#!/usr/bin/env bash
# Measures the control plane with a million keys, or as many as are named, on both databases, and how many messages of
# gateways it takes there and with Redis: for docs/performance.md.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/setup-postgres.sh"
"$root/scripts/setup-redis.sh"
need_rust
cd "$root"
TOLLGATE_KEYS=${1:-1000000} FLEET_SECONDS=10 exec cargo test --locked --profile bench-tools -p tollgate-cli \
    --test million --test fleet_load -- --nocapture --test-threads=1
