#!/usr/bin/env bash
# Writes what is generated from types and committed: docs/openapi.json and docs/schemas.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
cd "$root"
cargo build --locked -p tollgate-cli
"$build_dir/debug/tollgate" openapi >docs/openapi.json
for file in docs/schemas/*.json; do
    "$build_dir/debug/tollgate" schema "$(basename "$file" .json)" >"$file"
done
