# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # from lib.sh, and for the scripts that source this one
# Finds or makes a compiler for wasm32-unknown-unknown. Sourced after lib.sh; `need_wasm_toolchain` leaves:
#   wasm_toolchain   rustup | debian
#   wasm_rustflags   flags for the wasm target only (array)
#   wasm_sysroot     where that target's standard library is
# and exports RUSTC where another compiler than cargo's own is used. `need_wasm_clippy` after it leaves:
#   wasm_clippy      the linter that reads that library
#
# WASM_TOOLCHAIN=rustup|debian forces one. Left alone: the target that is there, else `rustup target add`,
# else Debian's compiler, for which the standard library is built once from Debian's source package.

wasm_toolchain=
wasm_rustflags=()
wasm_sysroot=
wasm_clippy=

need_wasm_toolchain() {
    case ${WASM_TOOLCHAIN:-auto} in
    rustup) rustup_wasm || die "rustup has no $wasm_target and can't add it: type \`rustup target add $wasm_target\`, or WASM_TOOLCHAIN=debian" ;;
    debian) debian_wasm ;;
    auto) rustup_wasm || debian_wasm ;;
    *) die "WASM_TOOLCHAIN=$WASM_TOOLCHAIN is unknown: say rustup, debian, or leave it out" ;;
    esac
}

# Leaves the linter of that compiler in $wasm_clippy. Call it after need_wasm_toolchain.
need_wasm_clippy() {
    if [ "$wasm_toolchain" = rustup ]; then
        wasm_clippy=$(rustc --print sysroot)/bin/clippy-driver
        [ -x "$wasm_clippy" ] || rustup component add clippy >&2 ||
            die "clippy is missing: type \`rustup component add clippy\`"
    else
        wasm_clippy=/usr/bin/clippy-driver
        [ -x $wasm_clippy ] || apt_install "clippy for the compiler for wasm" rust-web-clippy
        [ "$($wasm_clippy --rustc --version)" = "$($RUSTC --version)" ] ||
            die "$wasm_clippy is not of the same version as $RUSTC: type \`apt-get install rust-web-clippy\`"
    fi
}

has_wasm_std() { compgen -G "$1/lib/rustlib/$wasm_target/lib/libstd-*.rlib" >/dev/null; }

# The target in the sysroot of cargo's own compiler.
rustup_wasm() {
    wasm_sysroot=$(rustc --print sysroot)
    if ! has_wasm_std "$wasm_sysroot"; then
        have rustup || return 1
        say "wasm target: rustup target add $wasm_target"
        # A server that is out of reach may hang rather than refuse.
        timeout 300 rustup target add "$wasm_target" >&2 && has_wasm_std "$wasm_sysroot" || return 1
    fi
    wasm_toolchain=rustup
}

# Debian's compiler has no wasm library: build one from Debian's source, beside the project and not in /usr.
debian_wasm() {
    local rustc=/usr/bin/rustc library=/usr/lib/rustlib/src/rust/library minimum
    minimum=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
    if ! [ -x $rustc ] || ! [ -d $library ] || ! debian_is_new_enough; then
        apt_install "a compiler for wasm (rustup's target could not be added)" rustc-web rust-web-src
        debian_is_new_enough || die "Debian's rustc is older than $minimum: type \`rustup target add $wasm_target\` where rustup can reach its server"
        [ -d $library ] || die "the source of Rust's standard library is missing: type \`apt-get install rust-web-src\`"
    fi
    export RUSTC=$rustc
    wasm_sysroot=$root/target/wasm-sysroot
    if [ "$(cat "$wasm_sysroot/made-by" 2>/dev/null)" != "$($rustc --version)" ]; then
        build_std
    fi
    wasm_toolchain=debian
    wasm_rustflags=("--sysroot=$wasm_sysroot" "-Clinker=$(wasm_linker)")
}

debian_is_new_enough() {
    [ -x "$rustc" ] && at_least "$minimum" "$("$rustc" --version | awk '{print $2}')"
}

# Built on an empty crate: std built together with the filters would meet their own no_std dependencies twice.
build_std() {
    say "wasm target: building Rust's standard library once, with Debian's compiler (about a minute)"
    local work=$root/target/wasm-std made remap
    remap=("--remap-path-prefix=$library=/rust/library"
        "--remap-path-prefix=$(realpath "$library")=/rust/library")
    mapfile -O 2 -t remap < <(crate_remaps)
    rm -rf "$work" "$wasm_sysroot"
    mkdir -p "$work/src"
    printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n' >"$work/Cargo.toml"
    echo '//! Empty.' >"$work/src/lib.rs"
    # embed-bitcode: without it the filters' link-time optimisation fails.
    (
        cd "$work"
        RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/out" \
            CARGO_ENCODED_RUSTFLAGS="$(encode_flags -Cembed-bitcode=yes "${remap[@]}")" \
            cargo build -Zbuild-std=std,panic_abort --release --target "$wasm_target"
    ) || die "Rust's standard library could not be built for $wasm_target: see the compiler's message above"
    made=$work/sysroot/lib/rustlib/$wasm_target/lib
    mkdir -p "$made"
    # Newer cargos may keep one directory a crate.
    find "$work/out/$wasm_target/release" -name '*.rlib' ! -name 'libempty*' -exec cp {} "$made/" \;
    has_wasm_std "$work/sysroot" || die "no libstd came out of building Rust's standard library"
    $rustc --version >"$work/sysroot/made-by"
    mv "$work/sysroot" "$wasm_sysroot"
    rm -rf "$work"
}

# rustup ships one (it is there even where its server is out of reach); Debian's is the fallback.
wasm_linker() {
    local found
    if have rustup; then
        found=$(compgen -G "$(env -u RUSTC rustc --print sysroot)/lib/rustlib/*/bin/rust-lld" | head -n 1) || true
        [ -n "$found" ] && echo "$found" && return
    fi
    for found in rust-lld wasm-ld wasm-ld-22 wasm-ld-21 wasm-ld-20 wasm-ld-19; do
        have "$found" && command -v "$found" && return
    done
    apt_install "a linker for wasm" lld
    command -v wasm-ld || die "a linker for wasm is missing: type \`apt-get install lld\`"
}

# Flags that keep the place of downloaded crates out of what is built from them. Call it when they are there:
# the directory they lie in is named after the registry's address.
crate_remaps() {
    local home=${CARGO_HOME:-$HOME/.cargo} sources
    printf '%s\n' "--remap-path-prefix=$home=/cargo"
    for sources in "$home"/registry/src/*; do
        printf '%s\n' "--remap-path-prefix=$sources=/crates"
    done
}

# cargo takes flags apart at this character, so that paths may hold spaces.
encode_flags() {
    local IFS=$'\x1f'
    printf '%s' "$*"
}
