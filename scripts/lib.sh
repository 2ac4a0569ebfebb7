# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the scripts that source this one
# What every script shares: where things are, how they speak, and the Rust they run with.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Build output may be put elsewhere with CARGO_TARGET_DIR; tools that are installed once stay in the tree.
build_dir=${CARGO_TARGET_DIR:-$root/target}
case $build_dir in /*) ;; *) build_dir=$root/$build_dir ;; esac
tools_dir=$root/target/tools
venv_dir=$root/target/venv
wasm_target=wasm32-unknown-unknown

say() { printf '==> %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
# One sentence: what is missing, and what to type.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# at_least 1.95 1.96.0: the second version is not older than the first.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# apt_install WHAT-FOR PACKAGE...: installs as root; says what to type otherwise.
apt_install() {
    local reason=$1
    shift
    if ! have apt-get; then
        die "$reason is missing, and this is not Debian: install what Debian calls \`$*\`, then run this again"
    fi
    if [ "$(id -u)" != 0 ]; then
        die "$reason is missing: type \`sudo apt-get install $*\`, then run this again"
    fi
    say "$reason: apt-get install $*"
    local log=$root/target/apt.log
    mkdir -p "$root/target"
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null || {
        tail -n 5 "$log" >&2
        die "$reason is missing and \`apt-get install $*\` failed: see $log"
    }
}

# The compiler of rust-toolchain.toml, or, where that one can't be had, an installed one that is new enough.
need_rust() {
    cd "$root"
    local wanted minimum toolchain
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    minimum=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    have cargo || die "Rust is missing: install rustup (or a cargo of $minimum or later), then run this again"
    have cc || apt_install "a C compiler and linker" gcc libc6-dev
    if ! cargo --version >/dev/null 2>&1 && have rustup; then
        say "Rust $wanted: rustup toolchain install"
        if ! rustup toolchain install "$wanted" --profile minimal -c rustfmt -c clippy; then
            for toolchain in $(rustup toolchain list 2>/dev/null | awk '{print $1}'); do
                if at_least "$minimum" "$(RUSTUP_TOOLCHAIN=$toolchain rustc --version 2>/dev/null | awk '{print $2}')"; then
                    warn "Rust $wanted can't be fetched: going on with the installed $toolchain"
                    export RUSTUP_TOOLCHAIN=$toolchain
                    break
                fi
            done
        fi
    fi
    local found
    found=$(rustc --version 2>/dev/null | awk '{print $2}') || true
    [ -n "$found" ] || die "Rust $wanted is missing and could not be fetched: type \`rustup toolchain install $wanted\`"
    at_least "$minimum" "$found" ||
        die "Rust $found is too old, $minimum is needed: type \`rustup toolchain install $wanted\`, or put a newer cargo and rustc first in PATH"
}

# A Python 3 with pip, kept apart from the system's: $venv_dir/bin/python.
need_python() {
    [ -x "$venv_dir/bin/python" ] && "$venv_dir/bin/python" -m pip --version >/dev/null 2>&1 && return
    have python3 || apt_install "Python 3" python3 python3-venv
    say "Python environment: target/venv"
    rm -rf "$venv_dir"
    # Debian ships `venv` without `ensurepip` unless python3-venv is installed.
    python3 -m ensurepip --version >/dev/null 2>&1 || apt_install "Python's venv" python3-venv
    python3 -m venv "$venv_dir" || die "python3 -m venv failed: type \`apt-get install python3-venv\`, then run this again"
}

# The crates that `make wasm` builds, one a line.
wasm_modules() { grep -v '^#' "$root/scripts/modules.txt"; }

# install_packages FOLDER NAME WHAT: the Python packages of FOLDER/requirements.txt into target/venv; again only when the
# list changed since it was noted as NAME.
install_packages() {
    local list=$root/$1/requirements.txt installed
    [ -f "$list" ] || die "$1/requirements.txt is missing: this tree is not whole"
    need_python
    installed=$venv_dir/$2.installed
    if ! cmp -s "$list" "$installed"; then
        say "Python packages of the $3 tests: target/venv"
        "$venv_dir/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" >&2 ||
            die "the Python packages could not be installed with pip: see its message above"
        cp "$list" "$installed"
    fi
}
