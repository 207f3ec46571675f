//! Axis ranges with a margin around the data, round ticks, and number formatting.

use std::ops::Range;

/// The range of a logarithmic axis, with a margin around the values.
pub(super) fn log_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (min, max) = bounds(values.filter(|value| *value > 0.0));
    if min > max {
        return 1.0..10.0;
    }
    min / 1.6..max * 1.6
}

/// The range of a linear axis, from zero to above the maximum.
pub(super) fn linear_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (_, max) = bounds(values);
    0.0..if max > 0.0 { max * 1.15 } else { 1.0 }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
        (min.min(value), max.max(value))
    })
}

/// Powers of ten within a range. Where these are few, multiples of them, too.
pub(super) fn ticks(range: &Range<f64>) -> Vec<f64> {
    let within = |steps: &[f64]| -> Vec<f64> {
        (-3..9)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| range.contains(tick))
            .collect()
    };
    let (few, some) = (within(&[1.0]), within(&[1.0, 2.0, 5.0]));
    if few.len() >= 4 {
        few
    } else if some.len() >= 3 {
        some
    } else {
        within(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    }
}

/// `0.4`, `12`, `3,000`, `10 M`.
pub fn number(value: f64) -> String {
    if value >= 1e6 {
        return format!("{} M", value / 1e6);
    }
    if value >= 1_000.0 {
        let whole = format!("{value:.0}");
        let (thousands, rest) = whole.split_at(whole.len() - 3);
        return format!("{thousands},{rest}");
    }
    let digits = usize::from(value < 10.0 && value.fract() > 0.001);
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_at_least_three() {
        assert_eq!(ticks(&(0.9..12.0)), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(ticks(&(50.0..200_000.0)), [100.0, 1_000.0, 10_000.0, 100_000.0]);
        assert_eq!(
            ticks(&(28_000.0..64_000.0)),
            [30_000.0, 40_000.0, 50_000.0, 60_000.0]
        );
    }

    #[test]
    fn numbers_have_thousands_separators() {
        let written: Vec<_> = [0.5, 12.0, 999.0, 3_000.0, 50_000.0, 1e6].map(number).into();
        assert_eq!(written, ["0.5", "12", "999", "3,000", "50,000", "1 M"]);
    }

    #[test]
    fn ranges_contain_their_values() {
        let range = log_range([4.0, 400.0].into_iter());
        assert!(range.contains(&4.0) && range.contains(&400.0), "{range:?}");
        assert_eq!(log_range([0.0].into_iter()), 1.0..10.0);
        assert!(linear_range([30.0].into_iter()).contains(&30.0));
    }
}
