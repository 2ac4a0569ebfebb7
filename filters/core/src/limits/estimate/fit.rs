//! A line through what was seen: tokens by two features of a request, by least squares of the *relative* error, with
//! older samples fading.
//!
//! Relative, because a tokenizer's scatter grows with the text, and because then no request weighs more than another,
//! however large it is.

use super::SURPRISE;

/// What is believed before anything is seen, and within which bounds each coefficient stays.
pub(super) struct Bounds {
    pub(super) prior: [f64; 2],
    /// How far the prior may well be off: by this and [`SCATTER`] it is weighed against what is seen.
    pub(super) off: [f64; 2],
    pub(super) least: [f64; 2],
    pub(super) most: [f64; 2],
}

/// How much of a sample's weight is left when the next one comes: it counts for the last fifty, mostly.
const KEPT: f64 = 0.98;
/// Samples, faded ones counted by what is left of them, after which one that is far off is distrusted.
const ENOUGH: f64 = 20.0;
/// How far the tokens of a text are off its line, about, as a part of them.
const SCATTER: f64 = 0.1;
/// No sum of what was seen is larger than this: divided by what the prior expects, a feature is at most 400, and the
/// tokens with it 1600.
const HIGHEST: f64 = 1e9;

/// Sums over what was seen: how many; products xx, xy, yy of the features x and y; xt, yt of them and the tokens t.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Fit(pub(super) [f64; 6]);

impl Fit {
    /// These sums, if they can be sums.
    pub(super) fn checked(sums: [f64; 6]) -> Option<Self> {
        sums.iter()
            .all(|sum| (0.0..=HIGHEST).contains(sum))
            .then_some(Self(sums))
    }

    /// Adds a sample. Once enough were seen, one that is more than [`SURPRISE`] times off what was expected counts as
    /// just that; before, as what the bounds allow.
    pub(super) fn learn(&mut self, bounds: &Bounds, features: [f64; 2], tokens: f64) {
        let expected = self.predict(bounds, features);
        let (least, most) = if self.seen() < ENOUGH {
            (dot(bounds.least, features), dot(bounds.most, features))
        } else {
            (expected / SURPRISE, expected * SURPRISE)
        };
        let tokens = tokens.clamp(least, most);
        let scale = dot(bounds.prior, features).max(1.0);
        let [x, y] = features.map(|feature| feature / scale);
        let t = tokens / scale;
        for (sum, new) in self.0.iter_mut().zip([1.0, x * x, x * y, y * y, x * t, y * t]) {
            *sum = (KEPT * *sum + new).min(HIGHEST);
        }
    }

    fn seen(&self) -> f64 {
        let [seen, ..] = self.0;
        seen
    }

    /// Tokens to expect.
    pub(super) fn predict(&self, bounds: &Bounds, features: [f64; 2]) -> f64 {
        dot(self.coefficients(bounds), features)
    }

    /// The coefficients with the least error. The prior counts as a few samples; a coefficient beyond its bounds is
    /// held there, and the other fitted to that.
    fn coefficients(&self, bounds: &Bounds) -> [f64; 2] {
        let Bounds {
            prior: [a0, b0],
            off,
            least: [least_a, least_b],
            most: [most_a, most_b],
        } = *bounds;
        let [wx, wy] = off.map(|off| (SCATTER / off).powi(2));
        let [_, xx, xy, yy, xt, yt] = self.0;
        let [xx, yy] = [xx + wx, yy + wy];
        let [xt, yt] = [xt + wx * a0, yt + wy * b0];
        let bound_a = |a: f64| a.clamp(least_a, most_a);
        let bound_b = |b: f64| b.clamp(least_b, most_b);
        let det = xx * yy - xy * xy;
        // What was seen always has one best line; only a record that nobody wrote may have none.
        let (a, b) = if det > 0.0 {
            ((xt * yy - yt * xy) / det, (yt * xx - xt * xy) / det)
        } else {
            (a0, b0)
        };
        let held = [bound_a(a), bound_b(b)];
        if held == [a, b] {
            return held;
        }
        // At the edge: the better of the two ways to hold one and fit the other.
        let [a, b] = held;
        let by_a = [a, bound_b((yt - a * xy) / yy)];
        let by_b = [bound_a((xt - b * xy) / xx), b];
        let error = |[a, b]: [f64; 2]| a * a * xx + 2.0 * a * b * xy + b * b * yy - 2.0 * (a * xt + b * yt);
        if error(by_a) <= error(by_b) { by_a } else { by_b }
    }
}

/// Tokens to expect where nothing is known.
pub(super) fn prior(bounds: &Bounds, features: [f64; 2]) -> f64 {
    dot(bounds.prior, features)
}

fn dot([a, b]: [f64; 2], [x, y]: [f64; 2]) -> f64 {
    a * x + b * y
}
