#!/usr/bin/env bash
# Feeds each reader of bodies, answers and changes with whatever reaches new code in it: `scripts/fuzz.sh [SECONDS]`, for each
# target (20 without a number). `scripts/fuzz.sh fixed` tries the same inputs each time, however fast the machine is: a
# change fails on what it broke, not on what the fuzzer happened to find that day. A target is a file in
# filters/fuzz/targets/ with a folder of seeds.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

length=${1:-20}
[[ $length =~ ^([1-9][0-9]{0,5}|fixed)$ ]] ||
    die "not a number of seconds: \`$length\`; type \`scripts/fuzz.sh 60\`, or \`scripts/fuzz.sh fixed\`"
need_rust
have c++ || apt_install "a C++ compiler, which the fuzzer's engine is built with," g++

# Flags from outside would take the place of those in filters/fuzz/.cargo/config.toml.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET
export CARGO_TARGET_DIR=$build_dir
cd "$root/filters/fuzz"
fuzzer=(--locked --profile fuzz --features engine)
say "fuzz targets: building"
cargo build "${fuzzer[@]}" --bins

failed=0
for source in targets/*.rs; do
    target=$(basename "$source" .rs)
    # Inputs that reached new code are kept from run to run, and so is one that failed: the next run begins with it.
    found=$build_dir/fuzz-inputs/$target
    if [[ $length == fixed ]]; then
        found=$build_dir/fuzz-inputs/fixed/$target
        rm -rf "$found"
        limits=(-seed=1 -runs=100000)
    else
        limits=(-max_total_time="$length")
    fi
    mkdir -p "$found"
    say "$target: ${limits[*]}"
    if cargo run --quiet "${fuzzer[@]}" --bin "$target" -- "${limits[@]}" -timeout=5 \
        -rss_limit_mb=1024 -max_len=4096 -dict=dictionary.txt -artifact_prefix="$found/" \
        "$found" "seeds/$target" >"$found.log" 2>&1 </dev/null; then
        # The last line says how many inputs were tried.
        tail -n 1 "$found.log" >&2
    else
        failed=1
        grep -a -m 1 -A 4 'panicked at' "$found.log" >&2 || tail -n 5 "$found.log" >&2
        grep -a -o 'Test unit written to .*' "$found.log" >&2 || true
        warn "$target failed: make the input a seed and a test of core, as CONTRIBUTING.md says"
    fi
done
exit "$failed"
