#!/usr/bin/env bash
# The models of one limit across the fleet and of a budget's slices, whole: their largest instances too, and walks of
# MODEL_SECONDS.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
cd "$root"
MODEL_SECONDS=${MODEL_SECONDS:-60} \
    cargo test --locked -p tollgate-shares -p tollgate-budgets --test model -- --include-ignored --nocapture
