#!/usr/bin/env bash
# Every test. Arguments go to the test runner: `make test ARGS="-p tollgate-core"`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/wasm.sh"
"$root/scripts/setup-envoy.sh"
"$root/scripts/setup-python.sh"
"$root/scripts/setup-node.sh"
need_rust
cd "$root"

say "documentation examples"
cargo test --locked --workspace --doc
if cargo nextest --version >/dev/null 2>&1; then
    say "tests (cargo nextest)"
    cargo nextest run --locked --workspace "$@"
    if [ $# -eq 0 ]; then
        # What goes through the filters once more, with the three of them as one module.
        say "tests: the one module"
        TOLLGATE_FORM=gateway cargo nextest run --locked -p tollgate-harness -E \
            'binary(/^(adversary|auth_contract|bodies|catalogue_change|endings|fairness|fallback|limits|limits_hostile|local_replies|never_over|routing|sdk)$/)'
    fi
else
    # One test file at a time, two tests of it at once: each test on Envoy starts several processes.
    say "tests (cargo test)"
    RUST_TEST_THREADS=2 cargo test --locked --workspace --all-targets --no-fail-fast "$@"
fi
