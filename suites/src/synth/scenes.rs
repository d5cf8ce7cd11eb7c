//! Simple scenes in the manner of SEED-Bench: coloured shapes, and four-choice
//! questions on attributes, places, counts and relations.

use super::canvas::{Canvas, Curve, Placement, circle, polygon, rounded};
use super::dice::Dice;
use super::palette::{COLORS, luma, near};
use super::{Ask, Picture};

const CHOICES: usize = 4;
pub(super) const LETTERS: [&str; CHOICES] = ["A", "B", "C", "D"];
/// Kinds of questions.
const KINDS: usize = 5;
/// Places of objects along one side.
const CELLS: usize = 4;
const SIDES: [usize; 3] = [384, 448, 512];
const COUNTS: [&str; 9] = [
    "Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight",
];
const SHAPES: [(&str, Form); 8] = [
    ("circle", Form::Circle),
    ("square", Form::Square),
    ("triangle", Form::Triangle),
    ("star", Form::Star),
    ("diamond", Form::Diamond),
    ("cross", Form::Cross),
    ("ring", Form::Ring),
    ("heart", Form::Heart),
];

/// One question on a scene.
pub(super) struct Scene {
    pub(super) picture: Picture,
    pub(super) question: String,
    pub(super) choices: [String; CHOICES],
    pub(super) answer: usize,
    /// The question type by the number that SEED-Bench gives it.
    pub(super) kind: i64,
    /// What is to be seen, for telling scenes apart.
    pub(super) description: String,
}

#[derive(Clone, Copy)]
enum Form {
    Circle,
    Square,
    Triangle,
    Star,
    Diamond,
    Cross,
    Ring,
    Heart,
}

/// A shape somewhere in the picture.
#[derive(Clone, Copy)]
struct Object {
    shape: usize,
    color: usize,
    x: f32,
    y: f32,
    radius: f32,
}

impl Object {
    fn shape(&self) -> &'static str {
        SHAPES[self.shape].0
    }

    fn color(&self) -> &'static str {
        COLORS[self.color].0
    }

    fn name(&self) -> String {
        format!("{} {}", self.color(), self.shape())
    }
}

/// A shape of radius 1 around the origin.
fn outline(form: Form) -> Vec<Curve> {
    match form {
        Form::Circle => circle(0.9),
        Form::Square => rounded(1.6, 1.6, 0.0),
        Form::Triangle => polygon(&[(0.0, -0.95), (0.95, 0.8), (-0.95, 0.8)]),
        Form::Diamond => polygon(&[(0.0, -1.0), (0.7, 0.0), (0.0, 1.0), (-0.7, 0.0)]),
        // A regular pentagram, whose inner corners are at 0.382 of the radius.
        Form::Star => polygon(&[
            (0.0, -1.0),
            (0.224_5, -0.309),
            (0.951, -0.309),
            (0.363_3, 0.118),
            (0.587_8, 0.809),
            (0.0, 0.382),
            (-0.587_8, 0.809),
            (-0.363_3, 0.118),
            (-0.951, -0.309),
            (-0.224_5, -0.309),
        ]),
        Form::Cross => polygon(&[
            (-0.3, -0.9),
            (0.3, -0.9),
            (0.3, -0.3),
            (0.9, -0.3),
            (0.9, 0.3),
            (0.3, 0.3),
            (0.3, 0.9),
            (-0.3, 0.9),
            (-0.3, 0.3),
            (-0.9, 0.3),
            (-0.9, -0.3),
            (-0.3, -0.3),
        ]),
        Form::Ring => {
            // Drawn the other way round, the inner circle is a hole.
            let hole = circle(0.5).into_iter().map(|curve| match curve {
                Curve::Line(a, b) => Curve::Line(b, a),
                Curve::Quad(a, b, c) => Curve::Quad(c, b, a),
                Curve::Cubic(a, b, c, d) => Curve::Cubic(d, c, b, a),
            });
            circle(0.9).into_iter().chain(hole).collect()
        }
        Form::Heart => {
            use ab_glyph_rasterizer::point;
            let (top, tip) = (point(0.0, -0.4), point(0.0, 0.9));
            vec![
                Curve::Cubic(top, point(0.3, -1.1), point(1.3, -0.7), tip),
                Curve::Cubic(tip, point(-1.3, -0.7), point(-0.3, -1.1), top),
            ]
        }
    }
}

/// Draws a scene with a question that has one right answer.
pub(super) fn draw(dice: &mut Dice) -> Scene {
    loop {
        let side = *dice.pick(&SIDES);
        let kind = dice.below(KINDS);
        let objects = arrange(dice, side, kind == 3);
        if let Some(asked) = ask(dice, &objects, side, kind) {
            return finish(dice, side, &objects, asked);
        }
    }
}

fn ask(dice: &mut Dice, objects: &[Object], side: usize, kind: usize) -> Option<Asked> {
    match kind {
        0 => attribute(dice, objects),
        1 => identity(dice, objects),
        2 => location(dice, objects, side as f32),
        3 => count(dice, objects),
        _ => relation(dice, objects),
    }
}

/// A question with the right choice first.
struct Asked {
    kind: i64,
    question: String,
    choices: Vec<String>,
}

fn arrange(dice: &mut Dice, side: usize, many: bool) -> Vec<Object> {
    let count = if many {
        dice.between(2, 8)
    } else {
        dice.between(2, 5)
    } as usize;
    let cells: Vec<usize> = (0..CELLS * CELLS).collect();
    let cells = dice.some(&cells, count);
    let step = side as f32 / CELLS as f32;
    // What is counted should be there more than once.
    let shapes = dice.some(&[0, 1, 2, 3, 4, 5, 6, 7], if many { 2 } else { 8 });
    cells
        .into_iter()
        .map(|cell| {
            let jitter = |dice: &mut Dice| dice.between(-12, 12) as f32 / 100.0 * step;
            let (dx, dy) = (jitter(dice), jitter(dice));
            Object {
                shape: *dice.pick(&shapes),
                color: dice.below(COLORS.len()),
                x: ((cell % CELLS) as f32 + 0.5) * step + dx,
                y: ((cell / CELLS) as f32 + 0.5) * step + dy,
                radius: dice.between(24, 40) as f32 / 100.0 * step,
            }
        })
        .collect()
}

/// The only object of a kind, if there is only one.
fn only(objects: &[Object], same: impl Fn(&Object) -> bool) -> bool {
    objects.iter().filter(|object| same(object)).count() == 1
}

/// `right` and three of the others.
fn among(dice: &mut Dice, right: &str, all: &[&str]) -> Vec<String> {
    let wrong: Vec<&str> = all
        .iter()
        .copied()
        .filter(|choice| *choice != right)
        .collect();
    let wrong = dice.some(&wrong, CHOICES - 1);
    std::iter::once(right)
        .chain(wrong)
        .map(super::words::capitalized)
        .collect()
}

fn attribute(dice: &mut Dice, objects: &[Object]) -> Option<Asked> {
    let object = dice.pick(objects);
    only(objects, |other| other.shape == object.shape).then(|| Asked {
        kind: 3,
        question: format!("What color is the {}?", object.shape()),
        choices: among(dice, object.color(), &COLORS.map(|color| color.0)),
    })
}

fn identity(dice: &mut Dice, objects: &[Object]) -> Option<Asked> {
    let object = dice.pick(objects);
    only(objects, |other| other.color == object.color).then(|| Asked {
        kind: 2,
        question: format!("What is the {} object?", object.color()),
        choices: among(dice, object.shape(), &SHAPES.map(|shape| shape.0)),
    })
}

fn location(dice: &mut Dice, objects: &[Object], side: f32) -> Option<Asked> {
    let object = dice.pick(objects);
    if !only(objects, |other| other.name() == object.name()) {
        return None;
    }
    let vertical = if object.y < side / 2.0 {
        "top"
    } else {
        "bottom"
    };
    let horizontal = if object.x < side / 2.0 {
        "left"
    } else {
        "right"
    };
    let corners = ["top left", "top right", "bottom left", "bottom right"];
    Some(Asked {
        kind: 4,
        question: format!("Where is the {} in the image?", object.name()),
        choices: among(dice, &format!("{vertical} {horizontal}"), &corners),
    })
}

fn count(dice: &mut Dice, objects: &[Object]) -> Option<Asked> {
    let object = dice.pick(objects);
    let (n, what) = match dice.percent(60) {
        true => (
            objects
                .iter()
                .filter(|other| other.shape == object.shape)
                .count(),
            format!("{}s", object.shape().replace("cross", "crosse")),
        ),
        false => (objects.len(), "objects".to_owned()),
    };
    Some(Asked {
        kind: 5,
        question: format!("How many {what} are there in the image?"),
        choices: among(dice, COUNTS[n], &COUNTS),
    })
}

fn relation(dice: &mut Dice, objects: &[Object]) -> Option<Asked> {
    let pair = dice.some(objects, 2);
    let (a, b) = (pair[0], pair[1]);
    if ![a, b]
        .iter()
        .all(|object| only(objects, |other| other.name() == object.name()))
    {
        return None;
    }
    let (dx, dy) = (a.x - b.x, a.y - b.y);
    // Far enough from the diagonal that nobody could disagree.
    let right = match (dx.abs() > 1.6 * dy.abs(), dy.abs() > 1.6 * dx.abs()) {
        (true, _) if dx < 0.0 => "to the left",
        (true, _) => "to the right",
        (_, true) if dy < 0.0 => "above",
        (_, true) => "below",
        _ => return None,
    };
    let all = ["to the left", "to the right", "above", "below"];
    Some(Asked {
        kind: 6,
        question: format!("Where is the {} relative to the {}?", a.name(), b.name()),
        choices: among(dice, right, &all),
    })
}

/// Choices in any order, with the place of the one that was first.
fn shuffled(dice: &mut Dice, mut choices: Vec<String>) -> (Vec<String>, usize) {
    let right = choices[0].clone();
    dice.shuffle(&mut choices);
    let answer = choices.iter().position(|choice| *choice == right);
    (choices, answer.expect("it is among them"))
}

fn finish(dice: &mut Dice, side: usize, objects: &[Object], asked: Asked) -> Scene {
    // Not the colour of any object, and light or dark enough beside them.
    let ground = loop {
        let ground: [u8; 3] = std::array::from_fn(|_| dice.between(90, 215) as u8);
        let apart = |object: &Object| {
            let color = COLORS[object.color].1;
            let distance: i32 = (0..3)
                .map(|c| (i32::from(color[c]) - i32::from(ground[c])).abs())
                .sum();
            distance > 110 && luma(color).abs_diff(luma(ground)) > 12
        };
        if objects.iter().all(apart) {
            break ground;
        }
    };
    let lower = near(dice, ground, 20);
    let mut canvas = Canvas::gradient(side, side, ground, lower);
    canvas.mottle(dice, 5, 6);
    let mut description = String::new();
    for object in objects {
        let color = near(dice, COLORS[object.color].1, 10);
        let place = Placement::scaled(object.radius, object.x, object.y);
        canvas.fill(&outline(SHAPES[object.shape].1), &place, color);
        let cell = |v: f32| (v * CELLS as f32 / side as f32) as usize;
        description += &format!("{} {} {};", object.name(), cell(object.x), cell(object.y));
    }
    let (choices, answer) = shuffled(dice, asked.choices);
    // Thrown last, so that the data set is the same with and without them.
    let mut asks: Vec<Ask> = Vec::new();
    for throw in 0..2 * KINDS {
        let Some(asked) = ask(dice, objects, side, throw % KINDS) else {
            continue;
        };
        if asks.iter().any(|known| known.question == asked.question) {
            continue;
        }
        let (choices, answer) = shuffled(dice, asked.choices);
        asks.push(Ask {
            question: asked.question,
            answer: LETTERS[answer].to_owned(),
            choices,
        });
    }
    Scene {
        picture: Picture {
            canvas,
            readings: Vec::new(),
            objects: objects
                .iter()
                .map(|object| (object.name(), object.x, object.y))
                .collect(),
            asks,
        },
        question: asked.question,
        choices: choices.try_into().expect("four choices"),
        answer,
        kind: asked.kind,
        description,
    }
}
