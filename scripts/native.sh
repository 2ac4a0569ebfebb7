#!/usr/bin/env bash
# Builds the native library, dist/libtollgate.so, and checks what it imports and exports.
#   native.sh              for this machine
#   native.sh aarch64      for another one, where Rust's standard library for it is there or `rustup target add` gets it:
#                          dist/aarch64/libtollgate.so
# What is hot in it is known from filters/native/gateway.profdata, which native-profile.sh records.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$root/scripts/wasm-toolchain.sh" # for its flags

# The oldest that it runs on: Debian 11, Ubuntu 20.04.
glibc=2.31

need_rust
machine=$(uname -m)
arch=${1:-$machine}
target=$arch-unknown-linux-gnu
into=$root/dist
[ "$arch" = "$machine" ] || into=$root/dist/$arch

if ! compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; then
    have rustup && timeout 300 rustup target add "$target" >&2 ||
        die "Rust's standard library for $target is missing: type \`rustup target add $target\` where rustup can reach its server"
fi

# This machine's own compiler would link the library to this machine's own glibc, and to libgcc_s. Zig's links it to any
# glibc, for any machine, and what unwinds a panic goes into the library.
need_python
if cmp -s "$root/scripts/zig.txt" "$venv_dir/zig.installed" ||
    { say "Zig, which links for glibc $glibc: target/venv (100 MB)" &&
        "$venv_dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
            --only-binary=:all: --requirement "$root/scripts/zig.txt" >&2 &&
        cp "$root/scripts/zig.txt" "$venv_dir/zig.installed"; }; then
    linker=$build_dir/zig-$arch
    mkdir -p "$build_dir"
    cat >"$linker" <<END
#!/usr/bin/env bash
exec "$venv_dir/bin/python" -m ziglang cc -target $arch-linux-gnu.$glibc "\${@/#-lgcc_s/-lunwind}"
END
    chmod +x "$linker"
elif [ "$arch" = "$machine" ]; then
    warn "Zig could not be installed: libtollgate.so will need this machine's glibc or a later one, and libgcc_s"
    linker=cc glibc=
else
    die "Zig could not be installed, and nothing else here links for $arch: see pip's message above"
fi

cd "$root"
cargo fetch --locked
flags=("--remap-path-prefix=$(rustc --print sysroot)=/rust" "--remap-path-prefix=$root=/tollgate")
mapfile -O ${#flags[@]} -t flags < <(crate_remaps)
# Another compiler may not read the profile, and finds nothing by its names.
hot=()
if [ "$(rustc --version | awk '{print $2}')" = "$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)" ]; then
    flags+=("-Cprofile-use=$root/filters/native/gateway.profdata" -Cllvm-args=-no-pgo-warn-mismatch
        "-Clink-arg=-Wl,-T,$root/filters/native/hot.ld")
    hot=(--hot)
else
    warn "this is not the compiler of rust-toolchain.toml: libtollgate.so is built without its profile, and takes about twice the CPU"
fi
say "native library: $target"
variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
env "$variable=$linker" CARGO_ENCODED_RUSTFLAGS="$(encode_flags "${flags[@]}")" RUSTC_WRAPPER="$root/scripts/rustc-stable-names.sh" \
    cargo build --locked --profile native --target "$target" --target-dir "$build_dir/native-library" -p tollgate-native
built=$build_dir/native-library/$target/native/libtollgate.so
python3 "$root/scripts/check-library.py" "$built" --glibc "$glibc" --no-path "$root" --no-path "$HOME" "${hot[@]}"
mkdir -p "$into"
# An Envoy that has the old one mapped keeps it.
if ! cmp -s "$built" "$into/libtollgate.so"; then
    cp "$built" "$into/.libtollgate.so.new"
    mv "$into/.libtollgate.so.new" "$into/libtollgate.so"
fi
