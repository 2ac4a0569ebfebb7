#!/usr/bin/env bash
# Puts the SDKs that the tests use as customers do into target/venv; again only when their list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

list=$root/wasm-tests/sdk/requirements.txt
[ -f "$list" ] || die "wasm-tests/sdk/requirements.txt is missing: this tree is not whole"
need_python
installed=$venv_dir/requirements.installed
if ! cmp -s "$list" "$installed"; then
    say "Python packages of the SDK tests: target/venv"
    "$venv_dir/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" >&2 ||
        die "the Python packages could not be installed with pip: see its message above"
    cp "$list" "$installed"
fi
