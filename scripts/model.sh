#!/usr/bin/env bash
# The model of one limit across the fleet, whole: its largest instances too, and walks of MODEL_SECONDS.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
cd "$root"
MODEL_SECONDS=${MODEL_SECONDS:-60} \
    cargo test --locked -p tollgate-shares --test model -- --include-ignored --nocapture
