#!/usr/bin/env python3
"""Finds circles: modules of a crate, crates, and folders of crates that need each other.

    circles.py [ROOT]     the tree of the workspace at ROOT, this one unless said

The rule. A module is a file; its children are the modules that it declares. Among the children of one module there is no
circle, where a child stands for all that is below it: if anything in `a` or below needs anything in `b` or below, then
nothing in `b` or below needs `a`, in one step or in several. What a file needs is what it names: `use` trees and paths
that begin with `crate`, `super` or `self`. A name that a module only hands on (`pub use`) is where it is from.

A module and its own children are one thing, and are not held against each other: a parent is made of its children, and
they may use what it defines. Tests are not looked at (`#[cfg(test)]`), as they may use anything. Each root (`lib.rs`,
`main.rs`, a file of `bin/`, a test with its folder) is a tree by itself.

Crates are held to the same: each is a leaf in the tree of folders, needs the crates that its Cargo.toml names with a path
or from the workspace (for tests and build scripts too), and a folder stands for all crates in it.

Exits with 1 where there is a circle, and says which lines tie it.
"""

import re
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

# Where somebody needs something: from and to are tuples of names from the root down.
Need = namedtuple("Need", "source target place")


class Module:
    """A file of a tree of modules."""

    def __init__(self, path, names, folder):
        self.path, self.names, self.folder = path, names, folder
        self.text = without_tests(blank(path.read_text(encoding="utf-8")))
        self.children = {}
        # By the name that this module gives it: the path that it is from.
        self.handed = {}
        self.globs = []


def blank(text):
    """The same lines without comments, and with empty strings: lengths stay."""
    pattern = r"""//[^\n]*|/\*.*?\*/|b?r(?P<h>\#*)".*?"(?P=h)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'"""
    keep = lambda match: re.sub(r"[^\n]", " ", match.group())

    def put(match):
        # A file's name is needed as it stands.
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        return match.group() if re.fullmatch(r"\s*#\[path = ", line) else keep(match)

    return re.sub(pattern, put, text, flags=re.S)


def without_tests(text):
    """The same without what stands behind `#[cfg(test)]`: to the end of its block, or of its line."""
    while match := re.search(r"#\[cfg\(test\)\]", text):
        end = re.compile(r"[;{]").search(text, match.end())
        at = end.end() if end else len(text)
        depth = 1 if end and end.group() == "{" else 0
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        gone = re.sub(r"[^\n]", " ", text[match.start() : at])
        text = text[: match.start()] + gone + text[at:]
    return text


def load(root):
    """All modules of the tree with this root file, by their names."""
    modules = {}

    def add(path, names, folder):
        module = modules[names] = Module(path, names, folder)
        declared = r"(?:#\[path = \"([^\"]+)\"\]\s*)?(?:pub(?:\([^)]*\))?\s+)?\bmod\s+(?:r#)?(\w+)\s*;"
        for match in re.finditer(declared, module.text):
            elsewhere, name = match.groups()
            choices = [folder / f"{name}.rs", folder / name / "mod.rs"]
            if elsewhere:
                choices = [path.parent / elsewhere]
            found = next((choice for choice in choices if choice.is_file()), None)
            if found:
                below = found.parent if elsewhere or found.name == "mod.rs" else folder / name
                module.children[name] = (*names, name)
                add(found, (*names, name), below)

    add(root, (), root.parent)
    return modules


def flatten(tree):
    """The paths of a `use` tree with the names that they are known by: `a::{b, c as d}` is a::b and a::c as d."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, alias = tree.partition(" as ")
        parts = [part.strip() for part in path.split("::") if part.strip()]
        if parts and parts[-1] == "self":
            parts.pop()
        if parts:
            yield parts, (alias.strip() or parts[-1])
        return
    depth, part, parts = 0, "", []
    for letter in rest[: rest.rindex("}")] + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    for part in filter(str.strip, parts):
        yield from flatten(head.strip() + part.strip())


def paths(module):
    """All that a file names: a path's parts, the name it gets here (`None` where it is no `use`), and where it stands."""
    text = module.text
    for match in re.finditer(r"\buse\s+([^;]+);", text):
        tree = re.sub(r"\s+", " ", match.group(1))
        for parts, alias in flatten(tree):
            yield parts, alias, match.start()
    text = re.sub(r"\buse\s+[^;]+;", lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for match in re.finditer(r"(?<![\w:])(?:crate|super|self)(?:::\w+)+", text):
        yield match.group().split("::"), None, match.start()


def defines(module, name):
    kinds = "struct|enum|union|trait|type|fn|const|static|macro_rules!"
    return re.search(rf"\b(?:{kinds})\s+(?:mut\s+)?{re.escape(name)}\b", module.text) is not None


def resolve(modules, names, parts, seen=frozenset()):
    """The module that a path of `names` leads to; `None` where it leads out of the crate."""
    here, parts = names, list(parts)
    if parts[0] == "crate":
        here, parts = (), parts[1:]
    elif parts[0] not in ("self", "super") and parts[0] not in modules[here].children:
        return None
    while parts and parts[0] in ("self", "super"):
        here = here[:-1] if parts[0] == "super" else here
        parts = parts[1:]
    while parts:
        module, name = modules[here], parts[0]
        if name in module.children:
            here, parts = module.children[name], parts[1:]
            continue
        handed = module.handed.get(name)
        if handed is None and not defines(module, name):
            for glob in module.globs:
                target = resolve(modules, here, glob, seen)
                if target is not None and defines(modules[target], name):
                    return target
        if handed and (here, name) not in seen:
            target = resolve(modules, here, [*handed, *parts[1:]], seen | {(here, name)})
            return here if target is None else target
        return here
    return here


def needs_of_modules(root):
    modules = load(root)
    for module in modules.values():
        for parts, alias, _ in paths(module):
            if alias == "*":
                module.globs.append(parts[:-1])
            elif alias and parts != [alias]:
                module.handed[alias] = parts
    for module in modules.values():
        for parts, alias, at in paths(module):
            parts = parts[:-1] if alias == "*" else parts
            target = resolve(modules, module.names, parts) if parts else None
            if target is not None and target != module.names:
                line = module.text.count("\n", 0, at) + 1
                yield Need(module.names, target, (module.path, line))


def circles(needs):
    """Each circle among the children of one node, as a list of needs in its order."""
    levels = {}
    for need in needs:
        source, target = need.source, need.target
        same = 0
        while same < min(len(source), len(target)) and source[same] == target[same]:
            same += 1
        # One that stands above the other is not held against it.
        if same < len(source) and same < len(target):
            level = levels.setdefault(source[:same], {})
            level.setdefault(source[same], {}).setdefault(target[same], need)
    for _, edges in sorted(levels.items()):
        done = set()
        for start in sorted(edges):
            circle = shortest(edges, start)
            if circle and not done & {step.source for step in circle}:
                done |= {step.source for step in circle}
                yield circle


def shortest(edges, start):
    """The shortest way from a node back to it."""
    ways, seen = [[(start, None)]], set()
    while ways:
        way = ways.pop(0)
        for target, need in sorted(edges.get(way[-1][0], {}).items()):
            if target == start:
                return [step for _, step in way[1:]] + [need]
            if target not in seen:
                seen.add(target)
                ways.append([*way, (target, need)])
    return None


def roots(crate):
    """The files that rustc begins with."""
    manifest = tomllib.loads((crate / "Cargo.toml").read_text(encoding="utf-8"))
    found = [crate / "src/lib.rs", crate / "src/main.rs", crate / "build.rs"]
    for folder in ["src/bin", "tests", "benches", "examples"]:
        found += sorted((crate / folder).glob("*.rs")) + sorted((crate / folder).glob("*/main.rs"))
    for kind in ["bin", "test", "bench", "example"]:
        found += [crate / target["path"] for target in manifest.get(kind, []) if "path" in target]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def needs_of_crates(root, crates):
    workspace = tomllib.loads((root / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]
    shared = workspace.get("dependencies", {})
    for crate in crates:
        path = crate / "Cargo.toml"
        manifest = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = [manifest, *manifest.get("target", {}).values()]
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"]:
            for name, said in [item for table in tables for item in table.get(kind, {}).items()]:
                said = said if isinstance(said, dict) else {}
                base = root if said.get("workspace") else crate
                said = shared.get(name, {}) if said.get("workspace") else said
                if isinstance(said, dict) and "path" in said:
                    target = (base / said["path"]).resolve()
                    lines = path.read_text(encoding="utf-8").splitlines()
                    line = next(at for at, text in enumerate(lines, 1) if text.startswith(name))
                    yield Need(leaf(root, crate), leaf(root, target), (path, line))


def leaf(root, crate):
    """A crate's folder from the root down. What lies in a crate's folder is beside the crate, not below it."""
    return (*crate.relative_to(root).parts, ".")


def check(root):
    root = Path(root).resolve()
    members = tomllib.loads((root / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["members"]
    crates = [path for member in members for path in sorted(root.glob(member))]
    found = [("crates", circle) for circle in circles(list(needs_of_crates(root, crates)))]
    for crate in crates:
        for start in roots(crate):
            name = str(start.relative_to(root))
            found += [(name, circle) for circle in circles(list(needs_of_modules(start)))]
    for where, circle in found:
        print(f"circle ({where}):")
        for need in circle:
            path, line = need.place
            text = path.read_text(encoding="utf-8").splitlines()[line - 1].strip()
            print(f"  {path.relative_to(root)}:{line}: {text}")
    return len(found)


if __name__ == "__main__":
    tree = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    sys.exit(1 if check(tree) else 0)
