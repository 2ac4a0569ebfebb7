#!/usr/bin/env bash
# Installs Redis, which the tests of the fleet's coordinator start servers of their own with.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have redis-server || have valkey-server ||
    apt_install "Redis, which the tests of the fleet's coordinator run on," redis-server
