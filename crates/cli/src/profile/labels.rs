//! Where the names of points stand, so that no name covers another one or a point.

/// Height of a line of text of 12 pixels, and the mean width of its characters, generously.
const LINE: f64 = 14.0;
const CHARACTER: f64 = 6.8;
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
        (x - x.clamp(*left, *right)).hypot(y - y.clamp(*top, *bottom)) < p.radius
    }

    fn within(&self, Self([left, top, right, bottom]): &Self) -> bool {
        let Self(a) = self;
        a[0] >= *left && a[1] >= *top && a[2] <= *right && a[3] <= *bottom
    }
}

fn width(name: &str) -> f64 {
    CHARACTER * name.chars().count() as f64
}

/// The labels of points that lie in a frame (left, top, right, bottom), in their order; earlier ones have the better places.
///
/// A name stands right of its point, left, above or below; where all of that is taken, farther out in growing circles.
pub(super) fn place(points: &[Point], frame: [f64; 4], taken: &[[f64; 4]]) -> Vec<Label> {
    let mut areas: Vec<Area> = taken.iter().copied().map(Area).collect();
    let mut labels = Vec::with_capacity(points.len());
    for point in points {
        let free = |area: &Area| {
            area.within(&Area(frame))
                && !areas.iter().any(|a| a.meets(area))
                && !points.iter().any(|p| area.meets_circle(p))
        };
        let found = candidates(point).find(|&(at, _)| free(&Area::of_name(&point.name, at)));
        // In a picture that is full to the brim names overlap.
        let (at, distance) = found.unwrap_or(([point.center[0] + point.radius + GAP, point.center[1]], 0.0));
        let area = Area::of_name(&point.name, at);
        areas.push(area);
        let leader = (distance > 0.0).then(|| leader(point, &area));
        labels.push(Label { at: [at[0], at[1] + LINE * 0.3], leader });
    }
    labels
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
    fn no_name_covers_another_or_a_point() {
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
        let labels = place(&points, frame, &[]);
        let area = |i: usize| Area::of_name(&points[i].name, [labels[i].at[0], labels[i].at[1] - LINE * 0.3]);
        for i in 0..points.len() {
            assert!(area(i).within(&Area(frame)) && !points.iter().any(|p| area(i).meets_circle(p)), "{i}");
            assert!(!(0..i).any(|j| area(i).meets(&area(j))), "{i}");
        }
        assert!(labels.iter().any(|l| l.leader.is_some()));
        // Alone, a name stands right of its point.
        let [label] = &place(&points[..1], frame, &[])[..] else { panic!() };
        assert_eq!((label.at[0], &label.leader), (points[0].center[0] + points[0].radius + GAP, &None));
    }
}
