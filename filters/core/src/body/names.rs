//! Names of members and fields as other readers take them. Go's `encoding/json` matches them in any case, by Unicode's
//! folding; others pass over `_` and `-`, or end at a NUL. What any of them could take for a name that is read here
//! must not be there.

use std::sync::LazyLock;

use super::{Unmetered, caps};

/// In bytes, far more than any name that is read. Longer ones are refused where that matters.
const LONGEST: usize = 256;

/// What is read of a JSON body, beside [`ANSWERS`], [`caps`] and [`Unmetered`].
const MEMBERS: [&str; 15] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "tools",
    "functions",
    "documents",
    "auto_max_new_tokens",
];

/// How many answers there are to be, or beams, each of which is written.
pub(super) const ANSWERS: [&str; 14] = [
    "n",
    "best_of",
    "n_cmpl",
    "num_return_sequences",
    "num_beams",
    "beam_width",
    "beam_search_width",
    "beam_size",
    "num_generations",
    "candidate_count",
    "num_outputs_per_prompt",
    "num_images_per_prompt",
    "num_images",
    "num_outputs",
];

/// What is read of `stream_options`.
pub(super) const OPTIONS: [&str; 1] = ["include_usage"];

/// What is read of a form.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    ["model", "stream", "prompt"]
        .into_iter()
        .chain(ANSWERS)
        .chain(caps::fields())
}

/// The member of this name that is read; also what an error may point at.
pub(super) fn member(name: &str) -> Option<&'static str> {
    let member = MEMBERS.into_iter().find(|member| *member == name);
    member
        .or_else(|| ANSWERS.into_iter().find(|member| *member == name))
        .or_else(|| caps::member(name))
        .or_else(|| Unmetered::of(name).map(Unmetered::name))
}

/// Every member that is read, by its letters: a body is asked for each of its own.
static BY_LETTERS: LazyLock<Vec<(String, &'static str)>> = LazyLock::new(|| {
    let unmetered = Unmetered::ALL.iter().map(|one| one.name());
    let members = MEMBERS.into_iter().chain(ANSWERS).chain(caps::members());
    let members = members.chain(unmetered);
    let mut table: Vec<_> = members.map(|member| (folded_letters(member), member)).collect();
    // Of two with the same letters the first stays the first.
    table.sort_by(|(one, _), (other, _)| one.cmp(other));
    table
});

/// The member that somebody else may take this name for, though it is not its name.
pub(super) fn mistaken_member(name: &str) -> Option<&'static str> {
    if name.len() > LONGEST {
        return None;
    }
    let letters = folded_letters(name);
    let first = BY_LETTERS.partition_point(|(known, _)| *known < letters);
    let alike = BY_LETTERS.iter().skip(first);
    let mut alike = alike.take_while(|(known, _)| *known == letters);
    alike
        .find(|(_, member)| *member != name)
        .map(|(_, member)| *member)
}

/// The same as [`letters`], in a text.
fn folded_letters(name: &str) -> String {
    if !name.is_ascii() {
        return letters(name).collect();
    }
    let ended = name.bytes().take_while(|byte| *byte != 0);
    let said = ended.filter(|byte| byte.is_ascii_graphic() && !matches!(byte, b'_' | b'-'));
    let mut letters = String::with_capacity(name.len());
    letters.extend(said.map(|byte| char::from(byte.to_ascii_lowercase())));
    letters
}

/// The unmetered member that a form's field is, or that somebody else may take it for.
pub(super) fn unmetered_field(name: &str) -> Option<Unmetered> {
    let meant = || mistaken(name, Unmetered::ALL.iter().map(|one| one.name()));
    Unmetered::of(name).or_else(|| meant().and_then(Unmetered::of))
}

/// The one of `names` that somebody else may take `name` for, though it is another.
pub(super) fn mistaken(name: &str, mut names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // The first letter rules out nearly all.
    let first = *name.as_bytes().first()?;
    if name.len() > LONGEST {
        return None;
    }
    let letter = first.to_ascii_lowercase();
    let plain = first.is_ascii_alphanumeric();
    let may_be = |known: &str| !plain || known.as_bytes().first() == Some(&letter);
    names.find(|known| may_be(known) && *known != name && letters(name).eq(letters(known)))
}

/// The letters of a name, in one case: `Stream-Options` and `ſtream_options` have those of `stream_options`.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let ended = name.chars().take_while(|letter| *letter != '\0');
    let said = ended
        .filter(|letter| !matches!(letter, '_' | '-') && !letter.is_whitespace() && !letter.is_control());
    said.flat_map(fold)
}

/// A letter in lower case, as ASCII where one of its cases is: `K` (Kelvin), `ſ`, `ı`, `ﬆ`.
fn fold(letter: char) -> impl Iterator<Item = char> {
    let upper = letter.to_uppercase();
    let (upper, lower) = if !letter.is_ascii() && upper.clone().all(|letter| letter.is_ascii()) {
        (Some(upper), None)
    } else {
        // `İ` is an `i` and a dot above.
        (None, letter.to_lowercase().next())
    };
    let upper = upper
        .into_iter()
        .flatten()
        .map(|letter| letter.to_ascii_lowercase());
    upper.chain(lower)
}

/// A name in one case, for what has to be different in more than that; `None` where it is so.
pub(super) fn folded(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    (!name.bytes().all(plain)).then(|| name.chars().flat_map(fold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fold_to_one_that_is_read_are_mistaken_for_it() {
        for (name, member) in [
            ("Model", "model"),
            ("MODEL", "model"),
            ("N", "n"),
            ("ſtream", "stream"),
            ("Stream_Options", "stream_options"),
            ("streamOptions", "stream_options"),
            ("max-tokens", "max_tokens"),
            ("maxToKens", "max_tokens"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("max_completıon_tokens", "max_completion_tokens"),
            ("İnput", "input"),
            ("\u{fb06}ream", "stream"),
            ("meßages", "messages"),
            ("model\0", "model"),
            ("Lora_Path", "lora_path"),
            ("maxNewTokens", "max_new_tokens"),
            ("model\0x", "model"),
            (" model", "model"),
            ("_model", "model"),
            ("\u{7f}model", "model"),
        ] {
            assert_eq!(mistaken_member(name), Some(member), "{name}");
        }
        for name in MEMBERS.into_iter().chain([
            "",
            "models",
            "mode",
            "temperature",
            "top_p",
            "Ünput",
            "nn",
            "модель",
            "x\0model",
        ]) {
            assert_eq!(mistaken_member(name), None, "{name}");
        }
    }

    #[test]
    fn letters_of_ascii_are_the_same_the_short_way() {
        for byte in 0..128_u8 {
            for name in [format!("{}", char::from(byte)), format!("A{}b", char::from(byte))] {
                assert_eq!(
                    folded_letters(&name),
                    letters(&name).collect::<String>(),
                    "{name:?}"
                );
            }
        }
    }

    #[test]
    fn one_case_for_all() {
        assert_eq!(folded("top_p"), None);
        assert_eq!(folded("Top_P").as_deref(), Some("top_p"));
        assert_eq!(folded("ſeed").as_deref(), Some("seed"));
    }
}
