//! What somebody who misspelt a name may have meant.

/// The candidate that differs least, where that is little: one letter in three.
pub(super) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let few = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= few)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or change from one to the other. Of long ones only the beginning is looked at.
fn distance(from: &str, to: &str) -> usize {
    const MOST: usize = 64;
    let to: Vec<char> = to.chars().take(MOST).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.chars().take(MOST).enumerate() {
        let mut next = vec![at + 1];
        for ((b, above), pair) in to.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            let left = next.last().copied().unwrap_or_default();
            let changed = pair + usize::from(a != *b);
            next.push(changed.min(above + 1).min(left + 1));
        }
        row = next;
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
        assert_eq!(nearest("brust", fields()), None);
        assert_eq!(nearest("owerride", fields()), Some("overrides"));
        assert_eq!(nearest("concurrent", fields()), None);
    }
}
