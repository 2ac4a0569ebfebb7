//! `docs/threats.md` names a test for each thing that it says; here that each of them exists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where a test's file lies, by the name that the page gives it.
fn path(file: &str) -> PathBuf {
    let place = match file.split_once('/') {
        Some(("core", rest)) => format!("filters/core/src/{rest}"),
        Some(("vm", rest)) => format!("wasm-tests/vm/tests/{rest}"),
        Some(("fuzz", rest)) => format!("filters/fuzz/src/{rest}"),
        Some(("control", rest)) if rest.starts_with("src/") => format!("control/{rest}"),
        Some((room @ ("control" | "cli"), rest)) => format!("{room}/tests/{rest}"),
        _ => format!("wasm-tests/harness/tests/{file}"),
    };
    repository().join(place)
}

/// Whether `text` has a test of this name: an attribute that makes it one stands right above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let mut places = lines.iter().enumerate().filter(|(_, line)| is_it(line));
    places.any(|(at, _)| {
        let mut above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// The rows of the page's tables: their cells.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| an attacker"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn each_row_names_tests_that_exist() {
    let page = fs::read_to_string(repository().join("docs/threats.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 30, "{}", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        assert_eq!(
            row.len(),
            3,
            "what they try, what comes of it, tested in: {row:?}"
        );
        let named: Vec<&str> = row[2].split('`').filter(|part| part.contains("::")).collect();
        assert!(!named.is_empty(), "no test: {row:?}");
        for test in named {
            let (file, name) = test.split_once("::").unwrap();
            let there = fs::read_to_string(path(file)).is_ok_and(|text| has_test(&text, name));
            if !there {
                missing.push(test);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/threats.md names tests that don't exist: {missing:#?}"
    );
}

#[test]
fn a_test_is_told_from_what_is_none() {
    let text = "#[test]\nfn one() {\n#[tokio::test(flavor = \"x\")]\n// why\nasync fn two() {\nfn three() {\n    /// Four.\n    #[test]\n    fn four(x in 0..1) {";
    for name in ["one", "two", "four"] {
        assert!(has_test(text, name), "{name}");
    }
    for name in ["three", "on", "five"] {
        assert!(!has_test(text, name), "{name}");
    }
}
