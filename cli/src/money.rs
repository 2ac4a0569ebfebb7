//! Costs as people write them: `2500.50` is 2,500,500,000 millionths.

use anyhow::{Context as _, Result};

/// Millionths of a cost such as `2500`, `2500.50` or `0.000001`.
pub(crate) fn parse(text: &str) -> Result<u64> {
    let expected = || {
        format!(
            "`{text}` is no cost: expected a number such as `2500` or `2500.50`, with at most six decimals"
        )
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let sum = || {
        let whole = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?;
        whole.checked_add(format!("{part:0<6}").parse().ok()?)
    };
    let fits = is_number(whole) && is_number(part) && part.len() <= 6;
    fits.then(sum).flatten().with_context(expected)
}

/// The same for people, with two decimals or as many as it takes.
pub(crate) fn text(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let part = format!("{part:06}");
    let shown = part.trim_end_matches('0');
    format!("{whole}.{shown:0<2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_as_people_write_them() {
        for (given, micros, shown) in [
            ("2500", 2_500_000_000, "2500.00"),
            ("2500.5", 2_500_500_000, "2500.50"),
            ("0.000001", 1, "0.000001"),
            ("0", 0, "0.00"),
            ("18446744073709.551615", u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(parse(given).unwrap(), micros);
            assert_eq!(text(micros), shown);
        }
        for wrong in [
            "",
            ".5",
            "5.",
            "-1",
            "+1",
            "1,000",
            "1e3",
            "0.0000001",
            "18446744073709.551616",
            " 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
