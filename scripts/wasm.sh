#!/usr/bin/env bash
# Builds wasm modules, the same bytes wherever the tree lies, and checks what they import and export.
#   wasm.sh                     the modules of modules.txt, into dist/ with SHA256SUMS
#   wasm.sh --into DIR CRATE... other crates, into DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$root/scripts/wasm-toolchain.sh"

into=$root/dist
modules=()
crate_suffix=
if [ "${1:-}" = --into ]; then
    into=$2
    shift 2
    modules=("$@")
else
    mapfile -t modules < <(wasm_modules)
    crate_suffix=-wasm
fi

need_rust
have python3 || apt_install "Python 3" python3
cd "$root"
cargo fetch --locked --target "$wasm_target"
need_wasm_toolchain

# Sixteen bytes at a time where bodies and events are searched, as every V8 in Envoy can: docs/performance.md has what
# it saves. Paths of this machine would differ from the next one's, and say where the tree lay: none may get in.
flags=("${wasm_rustflags[@]}" -Ctarget-feature=+simd128 "--remap-path-prefix=$wasm_sysroot=/rust" "--remap-path-prefix=$root=/tollgate")
mapfile -O ${#flags[@]} -t flags < <(crate_remaps)

mkdir -p "$into"
for module in "${modules[@]}"; do
    say "wasm ($wasm_toolchain): $module"
    crate=$module$crate_suffix
    CARGO_ENCODED_RUSTFLAGS=$(encode_flags "${flags[@]}") \
        cargo build --locked --release --target "$wasm_target" --target-dir "$build_dir/wasm-$wasm_toolchain" -p "$crate"
    built=$build_dir/wasm-$wasm_toolchain/$wasm_target/release/${crate//-/_}.wasm
    python3 "$root/scripts/check-module.py" "$built" --no-path "$root" --no-path "$HOME"
    # An unchanged module keeps its file: a proxy that runs it does not notice.
    if ! cmp -s "$built" "$into/$module.wasm"; then
        cp "$built" "$into/.$module.wasm.new"
        mv "$into/.$module.wasm.new" "$into/$module.wasm"
    fi
done
if [ "$into" = "$root/dist" ]; then
    (cd "$into" && sha256sum "${modules[@]/%/.wasm}" >.SHA256SUMS.new && mv .SHA256SUMS.new SHA256SUMS)
    say "dist/: ${modules[*]/%/.wasm}, SHA256SUMS"
fi
