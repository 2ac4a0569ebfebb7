#!/usr/bin/env bash
# Puts the SDKs for Node that the tests use as customers do into wasm-tests/sdk-node; again only when their list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

package=$root/wasm-tests/sdk-node
list=$package/package-lock.json
[ -f "$list" ] || die "wasm-tests/sdk-node/package-lock.json is missing: this tree is not whole"

minimum=$(sed -n 's/^ *"node": *">=\([0-9.]*\)".*/\1/p' "$package/package.json")
have node || apt_install "Node" nodejs npm
found=$(node --version 2>/dev/null) || true
at_least "$minimum" "${found#v}" ||
    die "Node ${found#v} is too old, $minimum is needed for the SDK tests: put a newer node and npm first in PATH, then run this again"

# `npm ci` removes node_modules, and with it this mark of what it had installed.
installed=$package/node_modules/.installed.json
if ! cmp -s "$list" "$installed"; then
    have npm || apt_install "npm" npm
    say "Node packages of the SDK tests: wasm-tests/sdk-node/node_modules"
    npm ci --prefix "$package" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
        die "the Node packages could not be installed with npm: see its message above"
    cp "$list" "$installed"
fi
