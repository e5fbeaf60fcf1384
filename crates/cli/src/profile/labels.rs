//! Where the names of points and lines stand, so that no name covers another one, a point or a line.

/// Height of a line of text of 12 pixels, and the mean width of its characters, generously.
const LINE: f64 = 14.0;
const CHARACTER: f64 = 6.8;
/// From the middle of a line of text to its base line, in lines.
const BASE: f64 = 0.3;
/// Pixels between a point and its name.
const GAP: f64 = 4.0;

/// A point: a circle with a name.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) center: [f64; 2],
    pub(super) radius: f64,
    pub(super) name: String,
}

/// Where a name begins (its base line's left end), and the line that leads to it from its point where it stands apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    pub(super) at: [f64; 2],
    pub(super) leader: Option<[[f64; 2]; 2]>,
}

/// Left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area([f64; 4]);

impl Area {
    /// Of a name whose left end is there, halfway up.
    fn of_name(name: &str, [left, middle]: [f64; 2]) -> Self {
        Self([left, middle - LINE / 2.0, left + width(name), middle + LINE / 2.0])
    }

    fn meets(&self, other: &Self) -> bool {
        let (Self(a), Self(b)) = (self, other);
        a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
    }

    fn meets_circle(&self, p: &Point) -> bool {
        let Self([left, top, right, bottom]) = self;
        let [x, y] = p.center;
        // The edge of the circle is drawn too.
        (x - x.clamp(*left, *right)).hypot(y - y.clamp(*top, *bottom)) < p.radius + 2.0
    }

    /// Whether a straight line passes through.
    fn meets_line(&self, [[x1, y1], [x2, y2]]: &[[f64; 2]; 2]) -> bool {
        let Self([left, top, right, bottom]) = self;
        // The part of the line, from 0 to 1, that is between the edges of each direction.
        let (mut from, mut to) = (0.0_f64, 1.0_f64);
        for (start, delta, low, high) in [(*x1, x2 - x1, *left, *right), (*y1, y2 - y1, *top, *bottom)] {
            if delta == 0.0 {
                if start < low || start > high {
                    return false;
                }
            } else {
                let (a, b) = ((low - start) / delta, (high - start) / delta);
                (from, to) = (from.max(a.min(b)), to.min(a.max(b)));
            }
        }
        from <= to
    }

    fn within(&self, Self([left, top, right, bottom]): &Self) -> bool {
        let Self(a) = self;
        a[0] >= *left && a[1] >= *top && a[2] <= *right && a[3] <= *bottom
    }
}

fn width(name: &str) -> f64 {
    CHARACTER * name.chars().count() as f64
}

/// Base lines' left ends of the lines' names, and the labels of the points, in their order; all lie in a frame (left, top, right, bottom).
///
/// A line's name stands beside it, as far right as there is room. A point's name stands right of it, left, above or below; where all of
/// that is taken, farther out in growing circles. Earlier ones have the better places.
pub(super) fn place(points: &[Point], frame: [f64; 4], lines: &[(&str, [[f64; 2]; 2])]) -> (Vec<[f64; 2]>, Vec<Label>) {
    let mut areas: Vec<Area> = Vec::new();
    let free = |area: &Area, areas: &[Area]| {
        area.within(&Area(frame))
            && !areas.iter().any(|a| a.meets(area))
            && !points.iter().any(|p| area.meets_circle(p))
            && !lines.iter().any(|(_, line)| area.meets_line(line))
    };
    let mut names = Vec::with_capacity(lines.len());
    for (name, line) in lines {
        let found = beside(name, line).find(|at| free(&Area::of_name(name, *at), &areas));
        // In a picture that is full to the brim names overlap.
        let at = found.unwrap_or([line[1][0] - width(name), line[1][1] - LINE]);
        areas.push(Area::of_name(name, at));
        names.push([at[0], at[1] + LINE * BASE]);
    }
    let mut labels = Vec::with_capacity(points.len());
    for point in points {
        let found = candidates(point).find(|&(at, _)| free(&Area::of_name(&point.name, at), &areas));
        let (at, distance) = found.unwrap_or(([point.center[0] + point.radius + GAP, point.center[1]], 0.0));
        let area = Area::of_name(&point.name, at);
        areas.push(area);
        let leader = (distance > 0.0).then(|| leader(point, &area));
        labels.push(Label { at: [at[0], at[1] + LINE * BASE], leader });
    }
    (names, labels)
}

/// Places of a line's name from its right end to its left: above it, farther above, below.
fn beside(name: &str, [[x1, y1], [x2, y2]]: &[[f64; 2]; 2]) -> impl Iterator<Item = [f64; 2]> {
    const STEPS: u32 = 60;
    let (length, x, y) = (width(name), [*x1, *x2], [*y1, *y2]);
    (0..STEPS).flat_map(move |i| {
        let t = 1.0 - f64::from(i) / f64::from(STEPS);
        let [x, y] = [x, y].map(|[from, to]| from + t * (to - from));
        let off = LINE / 2.0 + GAP;
        [[x - length - GAP, y - off], [x - length - GAP, y - 2.5 * off], [x + GAP, y + off]]
    })
}

/// Places of a name and their distances from the nearest ones.
fn candidates(point: &Point) -> impl Iterator<Item = ([f64; 2], f64)> {
    let Point { center: [x, y], radius, name } = point.clone();
    (0..40).flat_map(move |ring| {
        let distance = 10.0 * f64::from(ring);
        let reach = radius + GAP + distance;
        let width = width(&name);
        // Eight directions, those beside the point first.
        [[1.0, 0.0], [-1.0, 0.0], [0.7, 0.7], [0.7, -0.7], [-0.7, 0.7], [-0.7, -0.7], [0.0, 1.0], [0.0, -1.0]].map(
            |[dx, dy]: [f64; 2]| {
                let left = x
                    + dx * reach
                    + width
                        * if dx > 0.0 {
                            0.0
                        } else if dx < 0.0 {
                            -1.0
                        } else {
                            -0.5
                        };
                ([left, y + dy * (reach + LINE / 2.0 * (1.0 - dx.abs()))], distance)
            },
        )
    })
}

/// From the edge of a point to the nearest place of a name's area.
fn leader(point: &Point, Area([left, top, right, bottom]): &Area) -> [[f64; 2]; 2] {
    let [x, y] = point.center;
    let end = [x.clamp(*left, *right), y.clamp(*top, *bottom)];
    let length = (end[0] - x).hypot(end[1] - y).max(1e-9);
    let start = [x + (end[0] - x) / length * point.radius, y + (end[1] - y) / length * point.radius];
    [start, end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_covers_another_a_point_or_a_line() {
        let frame = [70.0, 20.0, 840.0, 450.0];
        // Two dozen points in a small corner of the frame.
        let point = |i: usize| {
            let (a, b) = ((i * 37 % 24) as f64, (i * 11 % 24) as f64);
            Point {
                center: [600.0 + 9.0 * a, 60.0 + 7.0 * b],
                radius: 3.0 + a / 3.0,
                name: format!("kernel_number_{i}"),
            }
        };
        let points: Vec<Point> = (0..24).map(point).collect();
        let slope = [[100.0, 440.0], [500.0, 100.0]];
        let lines = [("a ceiling's name", [[500.0, 100.0], [840.0, 100.0]]), ("the name of a slope", slope)];
        let (names, labels) = place(&points, frame, &lines);
        let mut areas: Vec<Area> = Vec::new();
        let at_point = points.iter().zip(&labels).map(|(p, l)| (p.name.as_str(), l.at));
        for (name, at) in lines.iter().map(|l| l.0).zip(names).chain(at_point) {
            let area = Area::of_name(name, [at[0], at[1] - LINE * BASE]);
            assert!(area.within(&Area(frame)) && !points.iter().any(|p| area.meets_circle(p)), "{name}");
            assert!(!areas.iter().any(|a| a.meets(&area)), "{name}");
            assert!(!lines.iter().any(|(_, line)| area.meets_line(line)), "{name}");
            areas.push(area);
        }
        assert!(labels.iter().any(|l| l.leader.is_some()));
        // Alone, a name stands right of its point.
        let (_, alone) = place(&points[..1], frame, &[]);
        assert_eq!((alone[0].at[0], &alone[0].leader), (points[0].center[0] + points[0].radius + GAP, &None));
    }

    #[test]
    fn a_line_meets_an_area_where_it_passes_through() {
        let area = Area([10.0, 10.0, 20.0, 20.0]);
        for (line, expected) in [
            ([[0.0, 15.0], [30.0, 15.0]], true),
            ([[15.0, 0.0], [15.0, 12.0]], true),
            ([[0.0, 0.0], [30.0, 30.0]], true),
            ([[12.0, 12.0], [13.0, 18.0]], true),
            ([[0.0, 15.0], [9.0, 15.0]], false),
            ([[0.0, 25.0], [30.0, 25.0]], false),
            ([[0.0, 12.0], [12.0, 0.0]], false),
        ] {
            assert_eq!(area.meets_line(&line), expected, "{line:?}");
        }
    }
}
