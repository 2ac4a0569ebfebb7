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

# run WHAT ARGUMENT...: without nextest one test file at a time and two tests of it at once, as each test on Envoy starts
# several processes.
run() {
    local what=$1
    shift
    if cargo nextest --version >/dev/null 2>&1; then
        say "$what (cargo nextest)"
        cargo nextest run --locked "$@"
    else
        say "$what (cargo test)"
        RUST_TEST_THREADS=2 cargo test --locked --no-fail-fast "$@"
    fi
}

say "documentation examples"
cargo test --locked --workspace --doc
run tests --workspace "$@"
if [ $# -eq 0 ]; then
    TOLLGATE_FORM=gateway run "tests of the one module" -p tollgate-harness "${one_module[@]/#/--test=}"
    TOLLGATE_FORM=native run "tests of the native library" -p tollgate-harness
fi
