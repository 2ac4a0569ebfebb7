//! What the readers of core must make of any bytes, said a second time in the plainest way, and compared.
//!
//! A check answers whether the bytes were read or refused, and fails where core says otherwise. The fuzzer in
//! `targets/` calls it with whatever reaches new code, the tests here with each file in `seeds/`.

mod counted;
pub mod directory_changes;
pub mod json_body;
pub mod multipart_body;
mod reported;
mod tree;
pub mod usage_reader;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Each seed of a target is read or refused as its name says, and core agrees with the check.
    fn seeds(target: &str, check: fn(&[u8]) -> bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        let (mut read, mut refused) = (0, 0);
        for seed in fs::read_dir(folder).unwrap() {
            let path = seed.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            println!("{name}");
            let expected = name.starts_with("read-");
            assert!(expected || name.starts_with("refused-"), "{name} says neither");
            assert_eq!(check(&fs::read(&path).unwrap()), expected, "{name}");
            *(if expected { &mut read } else { &mut refused }) += 1;
        }
        assert!(
            read > 0 && refused > 0,
            "{target}: {read} read, {refused} refused"
        );
    }

    #[test]
    fn changes_to_a_directory() {
        seeds("directory_changes", directory_changes::check);
    }

    #[test]
    fn json_bodies() {
        seeds("json_body", json_body::check);
    }

    #[test]
    fn multipart_bodies() {
        seeds("multipart_body", multipart_body::check);
    }

    #[test]
    fn answers() {
        seeds("usage_reader", usage_reader::check);
    }
}
