"""Checks the native library: what it needs of a machine, what it can ask of Envoy, what it offers, and that no path of the
builder's machine is in it.

It may call what callbacks.txt has of Envoy, and export its hooks and nothing else, so that it takes no other library's
place. Of the machine it may need libc and the libraries that come with it, no later than the given glibc. Whatever it
imports is looked for when it is loaded and not when it is first called: an Envoy that lacks something refuses it at once.
"""

import argparse
import pathlib
import re
import struct
import sys

HOOK = re.compile(r"envoy_dynamic_module_on_[a-z0-9_]+")
CALLBACKS = {
    "envoy_dynamic_module_callback_" + line
    for line in pathlib.Path(__file__).with_name("callbacks.txt").read_text().splitlines()
    if not line.startswith("#")
}
LIBRARIES = re.compile(r"lib(c|m|dl|pthread|rt|util)\.so\.\d+|ld-linux-[a-z0-9-]+\.so\.\d+")
# Without a version: what the compiler's start files ask for, if it is there.
OPTIONAL = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}

# With a profile that fits, some 330 KB of the library or more are hot.
HOT = 200_000

DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_FLAGS, DT_FLAGS_1, DT_BIND_NOW = 1, 5, 6, 30, 0x6FFFFFFB, 24
SHT_DYNAMIC, SHT_DYNSYM, SHT_VERSYM, SHT_VERNEED = 6, 11, 0x6FFFFFFF, 0x6FFFFFFE


class Library:
    """The parts of a 64-bit little-endian ELF file that are asked about."""

    def __init__(self, data):
        if data[:6] != b"\x7fELF\x02\x01":
            raise SystemExit("not a 64-bit little-endian ELF file")
        self.data = data
        offset, = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + at * size) for at in range(count)]

    def section(self, kind):
        return next(section for section in self.sections if section[1] == kind)

    def size_of(self, name):
        """How many bytes the section of this name has."""
        names = self.sections[struct.unpack_from("<H", self.data, 0x3E)[0]][4]
        called = (section for section in self.sections if self.data.startswith(name.encode() + b"\0", names + section[0]))
        return sum(section[5] for section in called)

    def text(self, section, at):
        begin = self.sections[section[6]][4] + at
        return self.data[begin : self.data.index(b"\0", begin)].decode()

    def dynamic(self):
        section = self.section(SHT_DYNAMIC)
        for at in range(section[4], section[4] + section[5], 16):
            tag, value = struct.unpack_from("<QQ", self.data, at)
            yield tag, value, section

    def versions(self):
        """Names of the versions that are needed, by the number that symbols have."""
        section = self.section(SHT_VERNEED)
        found, at = {}, section[4]
        while True:
            _, count, _, first, following = struct.unpack_from("<HHIII", self.data, at)
            need = at + first
            for _ in range(count):
                _, _, number, name, after = struct.unpack_from("<IHHII", self.data, need)
                found[number & 0x7FFF] = self.text(section, name)
                need += after
            if not following:
                return found
            at += following

    def symbols(self):
        """Each one's name, whether it is defined here, and the version that is needed of it."""
        section, numbers, versions = self.section(SHT_DYNSYM), self.section(SHT_VERSYM), self.versions()
        for at in range(1, section[5] // 24):
            name, _, _, place = struct.unpack_from("<IBBH", self.data, section[4] + at * 24)
            number, = struct.unpack_from("<H", self.data, numbers[4] + at * 2)
            yield self.text(section, name), place != 0, versions.get(number & 0x7FFF)


def number(version):
    return tuple(int(part) for part in version.removeprefix("GLIBC_").split("."))


def problems(library, glibc, paths, has_profile):
    if has_profile and (hot := library.size_of(".text.hot")) < HOT:
        yield (f"has {hot:,} bytes that are hot by its profile, where {HOT:,} or more are expected: "
               "record another profile with scripts/native-profile.sh")
    tags = list(library.dynamic())
    for tag, value, section in tags:
        if tag == DT_NEEDED and not LIBRARIES.fullmatch(name := library.text(section, value)) and glibc:
            yield f"needs {name}"
    if not any(tag == DT_BIND_NOW or (tag == DT_FLAGS and value & 8) or (tag == DT_FLAGS_1 and value & 1) for tag, value, _ in tags):
        yield "is not linked with BIND_NOW"
    for name, defined, version in library.symbols():
        if defined:
            if not HOOK.fullmatch(name):
                yield f"exports {name}"
        elif version is None:
            if name not in CALLBACKS and name not in OPTIONAL:
                yield f"imports {name}"
        elif glibc and version.startswith("GLIBC_") and number(version) > number(glibc):
            yield f"imports {name} of {version}, where {glibc} is the oldest that it is for"
    for path in paths:
        if len(path) > 1 and path.encode() in library.data:
            yield f"holds the path {path}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("--glibc", default="", help="the oldest that it is for; nothing: whatever it was linked for")
    parser.add_argument("--no-path", action="append", default=[], help="a path that must not be in the library")
    parser.add_argument("--hot", action="store_true", help="it was built by a profile, which has to fit")
    args = parser.parse_args()
    library = Library(args.library.read_bytes())
    found = list(problems(library, args.glibc, args.no_path, args.hot))
    for problem in found:
        print(f"error: {args.library.name} {problem}", file=sys.stderr)
    names = list(library.symbols())
    taken = sum(name in CALLBACKS for name, defined, _ in names if not defined)
    given = sum(defined for _, defined, _ in names)
    print(f"{args.library.name}: {len(library.data):,} bytes, {taken} of Envoy's callbacks, {given} hooks", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
