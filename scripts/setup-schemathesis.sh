#!/usr/bin/env bash
# Puts schemathesis, which asks the control plane's API by its description, into target/venv-schemathesis; again only when
# the list changed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Apart from the SDKs, whose dependencies it would bind.
venv_dir=$root/target/venv-schemathesis
install_packages control/schemathesis schemathesis API
