#!/usr/bin/env bash
# Every test. Arguments go to the test runner: `make test ARGS="-p tollgate-core"`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/wasm.sh"
"$root/scripts/setup-envoy.sh"
"$root/scripts/setup-python.sh"
"$root/scripts/setup-parsers.sh"
"$root/scripts/setup-node.sh"
need_rust
cd "$root"

# What goes through the filters is tested once more with the three of them as one module.
one_module=(
    accountant adversary auth_contract bodies catalogue_change endings fairness fallback limits limits_hostile
    local_replies never_over routing sdk
)

say "documentation examples"
cargo test --locked --workspace --doc
if cargo nextest --version >/dev/null 2>&1; then
    say "tests (cargo nextest)"
    cargo nextest run --locked --workspace "$@"
else
    # One test file at a time, two tests of it at once: each test on Envoy starts several processes.
    say "tests (cargo test)"
    export RUST_TEST_THREADS=2
    cargo test --locked --workspace --all-targets --no-fail-fast "$@"
fi
if [ $# -eq 0 ]; then
    say "tests: the one module"
    export TOLLGATE_FORM=gateway
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked -p tollgate-harness "${one_module[@]/#/--test=}"
    else
        cargo test --locked -p tollgate-harness --no-fail-fast "${one_module[@]/#/--test=}"
    fi
fi
