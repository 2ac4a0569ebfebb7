#!/usr/bin/env bash
# rustc as Cargo calls it (RUSTC_WRAPPER), with one change: symbols carry a crate's name and version, where Cargo makes them
# carry a hash of all that the crate depends on. A profile finds functions by their symbols, and so goes on fitting when a
# dependency changes.
set -euo pipefail
arguments=()
for argument; do
    case $argument in
    metadata=*) argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION ;;
    esac
    arguments+=("$argument")
done
exec "${arguments[@]}"
