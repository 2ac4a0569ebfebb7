#!/usr/bin/env bash
# Installs PostgreSQL's programs, which the control plane's tests start servers of their own with.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || have initdb ||
    apt_install "PostgreSQL, which the control plane's tests run on," postgresql
