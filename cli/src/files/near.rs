//! What somebody who misspelt a name may have meant.

/// The candidate that differs least, where that is little: one letter in three.
pub(crate) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let few = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= few)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, change or swap from one to the other. Of long ones only the beginning is looked at.
fn distance(from: &str, to: &str) -> usize {
    const MAX_CHARS: usize = 64;
    let from: Vec<char> = from.chars().take(MAX_CHARS).collect();
    let to: Vec<char> = to.chars().take(MAX_CHARS).collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.iter().enumerate() {
        let mut next = vec![line + 1];
        for (at, b) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(MAX_CHARS);
            let changed = cell(&row, at) + usize::from(a != b);
            let mut least = changed.min(cell(&row, at + 1) + 1).min(cell(&next, at) + 1);
            let swapped = line > 0 && at > 0 && from.get(line - 1) == Some(b) && to.get(at - 1) == Some(a);
            if swapped {
                least = least.min(cell(&above, at - 1) + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_or_two() {
        let fields = || ["rate", "burst", "per", "overrides"].into_iter();
        assert_eq!(nearest("rat", fields()), Some("rate"));
        assert_eq!(nearest("override", fields()), Some("overrides"));
        assert_eq!(nearest("brust", fields()), Some("burst"));
        assert_eq!(nearest("owerride", fields()), Some("overrides"));
        assert_eq!(nearest("teir", ["tier", "status"].into_iter()), Some("tier"));
        assert_eq!(nearest("concurrent", fields()), None);
    }
}
