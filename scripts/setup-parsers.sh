#!/usr/bin/env bash
# Puts the parsers that model servers read bodies with into target/venv; again only when their list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages wasm-tests/parsers parsers parser
