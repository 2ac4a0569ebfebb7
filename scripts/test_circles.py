#!/usr/bin/env python3
"""The check for circles finds those that there are, and no others: on trees of a few lines."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import circles

WORKSPACE = '[workspace]\nmembers = ["one"]\n'
CRATE = '[package]\nname = "one"\n'


def found(files):
    """How many circles there are in a workspace of these files, and what is said of them."""
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stdout(io.StringIO()) as said:
        for name, text in {"Cargo.toml": WORKSPACE, "one/Cargo.toml": CRATE, **files}.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return circles.check(root), said.getvalue()


def modules(**files):
    """The same of a crate with these modules."""
    return found({f"one/src/{name}.rs": text for name, text in files.items()})


class Modules(unittest.TestCase):
    def test_two_that_need_each_other_are_named_with_their_lines(self):
        count, said = modules(lib="mod a;\nmod b;\n", a="//! A.\nuse crate::b::B;\n", b="fn b() {\n    super::a::a();\n}\n")
        self.assertEqual(count, 1)
        self.assertIn("one/src/a.rs:2: use crate::b::B;", said)
        self.assertIn("one/src/b.rs:2: super::a::a();", said)

    def test_one_way_is_no_circle(self):
        self.assertEqual(modules(lib="mod a;\nmod b;\n", a="use crate::b::B;\n", b="pub struct B;\n"), (0, ""))

    def test_three_in_a_ring(self):
        ring = {"a": "use crate::{b::B, std};", "b": "use super::c::{self, C};", "c": "use crate::a::A as Other;"}
        count, said = modules(lib="mod a;\nmod b;\nmod c;\n", **ring)
        self.assertEqual((count, len(said.splitlines())), (1, 4))

    def test_what_is_below_a_module_counts_as_the_module(self):
        files = {
            "one/src/lib.rs": "mod a;\nmod b;\n",
            "one/src/a.rs": "mod deep;\n",
            "one/src/a/deep.rs": "use crate::b::B;\n",
            "one/src/b/mod.rs": "mod deep;\npub struct B;\n",
            "one/src/b/deep.rs": "use crate::a::A;\n",
        }
        self.assertEqual(found(files)[0], 1)

    def test_a_parent_and_its_children_are_one_thing(self):
        files = {
            "one/src/lib.rs": "mod a;\n",
            "one/src/a.rs": "mod deep;\npub use deep::Deep;\npub struct A(Deep);\n",
            "one/src/a/deep.rs": "use super::A;\npub struct Deep(Box<A>);\n",
        }
        self.assertEqual(found(files), (0, ""))

    def test_a_name_that_is_handed_on_is_where_it_is_from(self):
        children = {"a": "use super::B;\npub struct A(B);\n", "b": "use super::A;\npub struct B(A);\n"}
        for lib in ["mod a;\nmod b;\npub use a::A;\npub use b::B;\n", "mod a;\nmod b;\npub use {a::*, b::*};\n"]:
            self.assertEqual(modules(lib=lib, **children)[0], 1, lib)

    def test_tests_comments_and_texts_are_not_looked_at(self):
        a = '// use crate::b::B;\nconst A: &str = "use crate::b::B;";\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n'
        self.assertEqual(modules(lib="mod a;\nmod b;\n", a=a, b="use crate::a::A;\n"), (0, ""))

    def test_a_file_elsewhere(self):
        files = {
            "one/tests/story/main.rs": '#[path = "../shared/x.rs"]\nmod x;\nmod y;\n',
            "one/tests/shared/x.rs": "use crate::y::Y;\n",
            "one/tests/story/y.rs": "use crate::x::X;\n",
        }
        self.assertEqual(found(files)[0], 1)


class Crates(unittest.TestCase):
    def crates(self, needs):
        """Crates by their folders, and which each needs, as its Cargo.toml has it."""
        members = ", ".join(f'"{folder}"' for folder in needs)
        files = {"Cargo.toml": f'[workspace]\nmembers = [{members}]\n[workspace.dependencies]\nshared = {{ path = "a/x" }}\n'}
        return found(files | {f"{folder}/Cargo.toml": text for folder, text in needs.items()})

    def test_a_need_of_tests_ties_a_circle(self):
        count, said = self.crates({
            "a/x": '[dev-dependencies]\ny = { path = "../y" }\n',
            "a/y": "[dependencies]\nshared.workspace = true\n",
        })
        self.assertEqual(count, 1)
        self.assertIn("a/x/Cargo.toml:2: y = { path", said)

    def test_folders_need_each_other_though_no_crates_do(self):
        count, _ = self.crates({
            "a/x": "",
            "a/y": '[dependencies]\nz = { path = "../../b/z" }\n',
            "b/z": "",
            "b/w": "[dependencies]\nshared.workspace = true\n",
        })
        self.assertEqual(count, 1)

    def test_a_crate_in_anothers_folder_is_beside_it(self):
        one_way = {"a/x": "", "a/y": "[dependencies]\nshared.workspace = true\n", "a/y/z": "[dependencies]\nshared.workspace = true\n"}
        self.assertEqual(self.crates(one_way), (0, ""))


if __name__ == "__main__":
    unittest.main()
