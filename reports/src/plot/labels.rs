//! Label placement: each label near its point, on nothing that matters.
//!
//! Greedy with repair: each label takes the cheapest of its candidate places, then every label may
//! move again while the others stay, until nothing improves. Good enough for dozens of points.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    /// A rectangle around a centre.
    pub fn around(x: f64, y: f64, half_width: f64, half_height: f64) -> Self {
        Self {
            left: x - half_width,
            top: y - half_height,
            right: x + half_width,
            bottom: y + half_height,
        }
    }

    /// A level or upright line, so far on either side.
    pub fn along(from: (f64, f64), to: (f64, f64), reach: f64) -> Self {
        Self {
            left: from.0.min(to.0) - reach,
            top: from.1.min(to.1) - reach,
            right: from.0.max(to.0) + reach,
            bottom: from.1.max(to.1) + reach,
        }
    }

    /// Shared area.
    pub fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn contains(&self, other: &Self) -> bool {
        other.left >= self.left
            && other.right <= self.right
            && other.top >= self.top
            && other.bottom <= self.bottom
    }
}

/// A label to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Its point.
    pub anchor: (f64, f64),
    /// Size of its text.
    pub size: (f64, f64),
    /// Whether it may be left out when there is no free place.
    pub optional: bool,
}

/// What labels should stay away from.
#[derive(Debug, Clone, Default)]
pub(super) struct Obstacles {
    /// Marks, and lines that matter as much: never to be covered.
    pub marks: Vec<Rect>,
    /// Lines, as thin rectangles: better not covered.
    pub lines: Vec<Rect>,
}

/// Distances of a label's edge from its point, in pixels.
const DISTANCES: [f64; 5] = [14.0, 22.0, 34.0, 50.0, 70.0];
/// Cost of a square pixel of text on text or on a mark.
const COVERED_MARK: f64 = 100.0;
/// Cost of a square pixel of text on a line.
const COVERED_LINE: f64 = 3.0;
/// An optional label that would cost more is left out.
const OPTIONAL_LIMIT: f64 = 60.0;

/// Places for the labels inside of `area`; `None` for one left out.
pub(super) fn place(requests: &[Request], obstacles: &Obstacles, area: Rect) -> Vec<Option<Rect>> {
    let mut placed: Vec<Option<Rect>> = vec![None; requests.len()];
    for _round in 0..12 {
        let before = placed.clone();
        for (index, request) in requests.iter().enumerate() {
            placed[index] = None;
            let cost = |(distance, rect): &(f64, Rect)| {
                let marks: f64 = obstacles.marks.iter().map(|mark| mark.overlap(rect)).sum();
                let texts: f64 = placed.iter().flatten().map(|text| text.overlap(rect)).sum();
                let lines: f64 = obstacles.lines.iter().map(|line| line.overlap(rect)).sum();
                distance + COVERED_MARK * (marks + texts) + COVERED_LINE * lines
            };
            placed[index] = (candidates(request).into_iter())
                .filter(|(_, rect)| area.contains(rect))
                .map(|candidate| (cost(&candidate), candidate.1))
                .filter(|(cost, _)| !request.optional || *cost <= OPTIONAL_LIMIT)
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, rect)| rect);
        }
        if placed == before {
            break;
        }
    }
    placed
}

/// Candidate places with the cost of their distance, the preferred ones first.
fn candidates(request: &Request) -> Vec<(f64, Rect)> {
    let (x, y) = request.anchor;
    let (width, height) = request.size;
    // Where the label lies from its point, in half label sizes, and a little extra cost for the less
    // usual places. A fraction means above or below, and shifted sideways.
    let directions = [
        (1.0, 0.0, 0.0),
        (1.0, -1.0, 1.0),
        (1.0, 1.0, 1.0),
        (0.0, -1.0, 2.0),
        (0.0, 1.0, 2.0),
        (-1.0, 0.0, 3.0),
        (0.6, -1.0, 3.0),
        (0.6, 1.0, 3.0),
        (-0.6, -1.0, 4.0),
        (-0.6, 1.0, 4.0),
        (0.3, -1.0, 4.0),
        (0.3, 1.0, 4.0),
        (-0.3, -1.0, 4.0),
        (-0.3, 1.0, 4.0),
        (-0.85, -1.0, 5.0),
        (-0.85, 1.0, 5.0),
        (-1.0, -1.0, 4.0),
        (-1.0, 1.0, 4.0),
    ];
    let mut places = Vec::new();
    for distance in DISTANCES {
        for (dx, dy, extra) in directions {
            let beside = f64::abs(dx) == 1.0;
            // A diagonal label is as far away as a straight one, not farther.
            let reach = if beside && dy != 0.0 {
                0.7 * distance
            } else {
                distance
            };
            let sideways = if beside { reach } else { 0.0 };
            let centre_x = x + dx * (sideways + width / 2.0);
            let centre_y = y + dy * (reach + height / 2.0);
            let rect = Rect::around(centre_x, centre_y, width / 2.0, height / 2.0);
            places.push((distance - DISTANCES[0] + extra, rect));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = Rect {
        left: 0.0,
        top: 0.0,
        right: 1000.0,
        bottom: 800.0,
    };

    fn request(x: f64, y: f64, optional: bool) -> Request {
        Request {
            anchor: (x, y),
            size: (220.0, 20.0),
            optional,
        }
    }

    #[test]
    fn crowded_labels_do_not_overlap() {
        let requests: Vec<Request> = (0..8)
            .map(|i| {
                request(
                    400.0 + 12.0 * f64::from(i),
                    300.0 + 18.0 * f64::from(i),
                    false,
                )
            })
            .collect();
        let marks = requests
            .iter()
            .map(|r| Rect::around(r.anchor.0, r.anchor.1, 8.0, 8.0))
            .collect();
        let obstacles = Obstacles {
            marks,
            lines: Vec::new(),
        };
        let placed: Vec<Rect> = place(&requests, &obstacles, AREA)
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(placed.len(), requests.len());
        for (i, a) in placed.iter().enumerate() {
            assert!(AREA.contains(a));
            assert!(obstacles.marks.iter().all(|mark| mark.overlap(a) == 0.0));
            assert!(
                placed[i + 1..].iter().all(|b| a.overlap(b) == 0.0),
                "label {i}"
            );
        }
    }

    #[test]
    fn a_free_label_stands_right_of_its_point_and_turns_at_the_edge() {
        let free = place(&[request(300.0, 300.0, false)], &Obstacles::default(), AREA);
        assert_eq!(free[0].unwrap().left, 314.0);
        let edge = place(&[request(995.0, 300.0, false)], &Obstacles::default(), AREA);
        assert!(edge[0].unwrap().right <= 995.0);
    }

    #[test]
    fn only_optional_labels_are_left_out() {
        let wall = Obstacles {
            marks: vec![AREA],
            lines: Vec::new(),
        };
        let placed = place(
            &[request(500.0, 400.0, true), request(500.0, 400.0, false)],
            &wall,
            AREA,
        );
        assert_eq!(placed[0], None);
        assert!(placed[1].is_some());
    }
}
