"""Checks a wasm module: what it can ask of the proxy, what it offers, and that no path of the builder's machine is in it.

A module may import functions `env.proxy_*` and nothing else, so that it can do nothing else. It may export
its memory, the proxy's entry points, and the two constants that the linker adds; a stray `#[no_mangle]` in a
dependency would be one more way into it.
"""

import argparse
import pathlib
import re
import sys

KINDS = {0: "function", 1: "table", 2: "memory", 3: "global", 4: "tag"}
IMPORT = re.compile(r"env\.proxy_[a-z_]+")
EXPORT_FUNCTION = re.compile(r"proxy_(abi_version_0_2_[01]|on_[a-z_]+)|_initialize|_start|malloc")
EXPORT_OTHER = {("memory", "memory"), ("global", "__data_end"), ("global", "__heap_base")}


class Reader:
    """Reads the few parts of the binary format that the sections below need."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def u32(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self):
        size = self.u32()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def limits(self):
        if self.byte() & 1:
            self.u32()
        self.u32()


def sections(data):
    if data[:8] != b"\0asm\x01\0\0\0":
        raise SystemExit("not a wasm module")
    reader = Reader(data, 8)
    while reader.at < len(data):
        kind, size = reader.byte(), reader.u32()
        yield kind, Reader(data, reader.at)
        reader.at += size


def imports(reader):
    for _ in range(reader.u32()):
        name = f"{reader.name()}.{reader.name()}"
        kind = reader.byte()
        if kind == 0:
            reader.u32()
        elif kind == 1:
            reader.byte(), reader.limits()
        elif kind == 2:
            reader.limits()
        else:
            reader.byte(), reader.byte()
        yield KINDS[kind], name


def exports(reader):
    for _ in range(reader.u32()):
        name, kind = reader.name(), reader.byte()
        reader.u32()
        yield KINDS[kind], name


def problems(data, paths):
    for kind, reader in sections(data):
        if kind == 2:
            for what, name in imports(reader):
                if what != "function" or not IMPORT.fullmatch(name):
                    yield f"imports {what} {name}"
        elif kind == 7:
            for what, name in exports(reader):
                known = EXPORT_FUNCTION.fullmatch(name) if what == "function" else (what, name) in EXPORT_OTHER
                if not known:
                    yield f"exports {what} {name}"
    for path in paths:
        if len(path) > 1 and path.encode() in data:
            yield f"holds the path {path}"


def names(data, section, read):
    return [name for kind, reader in sections(data) if kind == section for _, name in read(reader)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=pathlib.Path)
    parser.add_argument("--no-path", action="append", default=[], help="a path that must not be in the module")
    parser.add_argument("--list", action="store_true", help="also list imports and exports")
    args = parser.parse_args()
    data = args.module.read_bytes()
    found = list(problems(data, args.no_path))
    for problem in found:
        print(f"error: {args.module.name} {problem}", file=sys.stderr)
    taken, given = names(data, 2, imports), names(data, 7, exports)
    if args.list:
        print(*(f"import {name}" for name in taken), *(f"export {name}" for name in given), sep="\n")
    print(f"{args.module.name}: {len(data):,} bytes, {len(taken)} imports, {len(given)} exports", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
