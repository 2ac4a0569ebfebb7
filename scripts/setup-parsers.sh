#!/usr/bin/env bash
# Puts the parsers that model servers read bodies with into target/venv; again only when their list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

list=$root/wasm-tests/parsers/requirements.txt
[ -f "$list" ] || die "wasm-tests/parsers/requirements.txt is missing: this tree is not whole"
need_python
installed=$venv_dir/parsers.installed
if ! cmp -s "$list" "$installed"; then
    say "Python packages of the parser tests: target/venv"
    "$venv_dir/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" >&2 ||
        die "the Python packages could not be installed with pip: see its message above"
    cp "$list" "$installed"
fi
