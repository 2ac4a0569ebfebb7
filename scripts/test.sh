#!/usr/bin/env bash
# Every test. Arguments go to the test runner: `make test ARGS="-p tollgate-core"`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/wasm.sh"
"$root/scripts/native.sh"
"$root/scripts/wasm.sh" --into "$root/target/tests" tollgate-vm-waiter
"$root/scripts/setup-envoy.sh"
"$root/scripts/setup-python.sh"
"$root/scripts/setup-parsers.sh"
"$root/scripts/setup-node.sh"
"$root/scripts/setup-postgres.sh"
"$root/scripts/setup-redis.sh"
"$root/scripts/setup-schemathesis.sh"
need_rust
cd "$root"
say "a native library of the tests' own"
cargo build --locked -p tollgate-test-library
cp "$build_dir/debug/libtollgate_test_library.so" "$root/target/tests/"

# What goes through the filters is tested once more with the three of them as one module, and all that is on an Envoy with
# the native library.
one_module=(
    accountant adversary auth_contract bodies catalogue_change endings fairness fallback limits limits_hostile
    local_replies never_over routing sdk
)

have_nextest() { cargo nextest --version >/dev/null 2>&1; }

# run ARGUMENT...: without nextest one test file at a time and two tests of it at once, as each test on Envoy starts several
# processes.
run() {
    if have_nextest; then
        cargo nextest run --locked "$@"
    else
        RUST_TEST_THREADS=2 cargo test --locked --no-fail-fast "$@"
    fi
}

# on_envoy FORM [TEST...]: the tests on Envoy, all or these, with another form of the filters. As a part of the workspace,
# where all was built already: for one package Cargo builds its dependencies with other features.
on_envoy() {
    local form=$1
    shift
    export TOLLGATE_FORM=$form
    if have_nextest; then
        local filter="package(tollgate-harness)"
        [ $# -eq 0 ] || filter+=" and binary(/^($(IFS='|' && echo "$*"))\$/)"
        run --workspace -E "$filter"
    else
        run -p tollgate-harness "${@/#/--test=}"
    fi
}

say "documentation examples"
cargo test --locked --workspace --doc
say "tests"
run --workspace "$@"
if [ $# -eq 0 ]; then
    say "tests of the one module"
    on_envoy gateway "${one_module[@]}"
    say "tests of the native library"
    on_envoy native
fi
