//! `tollgate schema`: what is committed is what the types say.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), tollgate_core::schema::NAMES.len());
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let made = tool.args(["schema", name]).output().unwrap();
        assert!(made.status.success(), "{name}");
        let made = String::from_utf8(made.stdout).unwrap();
        let committed = fs::read_to_string(&path).unwrap();
        assert!(
            made == committed,
            "{} is not what the types say: make generate",
            path.display()
        );
    }
}

#[test]
fn a_schema_says_what_a_reader_refuses() {
    let schema = |name| tollgate_core::schema::of(name).unwrap();
    let limits = serde_json::to_value(schema("rate-limit")).unwrap();
    assert_eq!(limits["required"], serde_json::json!(["limits"]));
    assert_eq!(limits["additionalProperties"], false);
    let rate = &limits["definitions"]["RawLimit"]["properties"]["rate"];
    assert_eq!(rate["pattern"], "^[0-9]+/(second|minute|hour|day)$");
    // A member that may be left out may not be null.
    for name in tollgate_core::schema::NAMES {
        let text = serde_json::to_string(&schema(name)).unwrap();
        assert!(!text.contains("null"), "{name}");
    }
}
