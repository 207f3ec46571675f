//! Places labels at the ends of lines, where they cover the fewest points and no other label.

/// Pixels of a character, on average, and of a line.
const CHARACTER: i32 = 8;
const HEIGHT: i32 = 16;
/// Pixels between a line's end and its label.
const GAP: i32 = 7;
/// The cost of covering another label, in covered points.
const LABEL_COST: usize = 1_000;

/// A position in pixels.
pub(super) type Pixel = (i32, i32);

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    left: i32,
    top: i32,
    width: i32,
}

impl Area {
    fn holds(&self, (x, y): Pixel) -> bool {
        (self.left..self.left + self.width).contains(&x) && (self.top..self.top + HEIGHT).contains(&y)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.left + other.width
            && other.left < self.left + self.width
            && (self.top - other.top).abs() < HEIGHT
    }
}

/// Returns the left top of each label. `ends` are the ends of the labelled lines, `points` the pixels of all lines.
pub(super) fn place(ends: &[(Pixel, &str)], points: &[Pixel], width: i32) -> Vec<Pixel> {
    let mut placed: Vec<Area> = Vec::new();
    for (end, label) in ends {
        let cost = |area: &Area| {
            let covered = points.iter().filter(|point| area.holds(**point)).count();
            let overlapping = placed.iter().filter(|other| area.overlaps(other)).count();
            let outside = usize::from(area.left < 0 || area.left + area.width > width);
            covered + LABEL_COST * (overlapping + outside)
        };
        placed.extend(candidates(*end, label).into_iter().min_by_key(cost));
    }
    placed.into_iter().map(|area| (area.left, area.top)).collect()
}

/// Right of the end, above it, below it, and left of it.
fn candidates((x, y): Pixel, label: &str) -> [Area; 8] {
    let width = CHARACTER * i32::try_from(label.chars().count()).unwrap_or(0);
    let (right, middle, left) = (x + GAP, x - width / 2, x - width - GAP);
    let (above, level, below) = (y - HEIGHT - GAP, y - HEIGHT / 2, y + GAP);
    [
        (right, level),
        (right, above),
        (right, below),
        (middle, above),
        (middle, below),
        (left, above),
        (left, below),
        (left, level),
    ]
    .map(|(left, top)| Area { left, top, width })
}

/// The pixels of a line, at most a few apart.
pub(super) fn trace(line: &[Pixel]) -> Vec<Pixel> {
    const STEP: i32 = 4;
    let mut pixels = line.to_vec();
    for pair in line.windows(2) {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        let steps = ((to_x - x).abs().max((to_y - y).abs()) / STEP).max(1);
        pixels.extend((0..steps).map(|step| (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps)));
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_right_of_its_line_if_nothing_is_there() {
        assert_eq!(place(&[((100, 50), "Spark")], &[(100, 50)], 400), [(107, 42)]);
    }

    #[test]
    fn label_avoids_lines_labels_and_the_border() {
        let crossing = trace(&[(108, 0), (108, 400)]);
        let places = place(&[((100, 50), "Spark")], &crossing, 400);
        assert!(places[0].0 + 5 * CHARACTER <= 108, "{places:?}");
        let places = place(&[((100, 50), "one"), ((100, 52), "two")], &[], 400);
        assert!((places[0].1 - places[1].1).abs() >= HEIGHT, "{places:?}");
        let places = place(&[((390, 50), "Spark")], &[], 400);
        assert!(places[0].0 + 5 * CHARACTER <= 400, "{places:?}");
    }
}
