#!/usr/bin/env bash
# Puts the SDKs that the tests use as customers do into target/venv; again only when their list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages wasm-tests/sdk requirements SDK
