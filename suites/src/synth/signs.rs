//! Scene text in the manner of TextVQA: signs before a background, a question
//! about one of them, ten annotators who mostly agree.

use super::canvas::{Canvas, Placement, polygon, rounded};
use super::dice::Dice;
use super::lettering::{Face, Line, Reading};
use super::palette::{COLORS, ink, near};
use super::words::{Words, capitalized};
use super::{Ask, Picture, Split};

/// Annotators of a question.
const ANNOTATORS: usize = 10;
/// Cosines and sines of small angles, written out because libraries differ in
/// their last digit.
const TILTS: [(f32, f32); 7] = [
    (1.0, 0.0),
    (1.0, 0.0),
    (0.998_629_5, 0.052_336),
    (0.998_629_5, -0.052_336),
    (0.994_521_9, 0.104_528_5),
    (0.994_521_9, -0.104_528_5),
    (0.987_688_3, 0.156_434_5),
];
const SIDES: [(usize, usize); 4] = [(512, 384), (384, 512), (448, 448), (512, 512)];

/// One question on a picture.
pub(super) struct Signs {
    pub(super) picture: Picture,
    pub(super) question: String,
    pub(super) answers: Vec<String>,
    /// Words in the picture, from top to bottom.
    pub(super) words: Vec<String>,
    pub(super) classes: Vec<&'static str>,
}

/// What a sign says.
enum Kind {
    Word,
    Number,
    Price,
}

struct Sign {
    text: String,
    kind: Kind,
    color: usize,
}

/// Draws a picture with questions for one split.
pub(super) fn draw(dice: &mut Dice, split: Split) -> Signs {
    let count = *dice.pick(&[1, 1, 2, 2, 3]);
    let colors = dice.some(&[0, 1, 2, 3, 4, 5, 6, 7], count);
    let signs: Vec<Sign> = colors
        .iter()
        .map(|color| sign(dice, split, *color))
        .collect();
    let (width, height) = *dice.pick(&SIDES);
    let mut canvas = backdrop(dice, width, height);
    // Signs stand in rows or in columns, whichever has more room.
    let beside = count > 1 && width >= height && dice.percent(50);
    let (columns, rows) = if beside { (count, 1) } else { (1, count) };
    let room = (width as f32 / columns as f32, height as f32 / rows as f32);
    let mut readings = Vec::new();
    for (i, sign) in signs.iter().enumerate() {
        let (column, row) = if beside { (i, 0) } else { (0, i) };
        let middle = (room.0 * (column as f32 + 0.5), room.1 * (row as f32 + 0.5));
        readings.push(hang(dice, &mut canvas, sign, middle, room));
    }
    let asked = dice.below(count);
    let question = ask(dice, &signs[asked], place(count, beside, asked));
    let answers = annotate(dice, &signs[asked].text.to_lowercase());
    // Thrown last, so that the data set is the same with and without them.
    let mut asks: Vec<Ask> = Vec::new();
    for (index, sign) in signs.iter().enumerate() {
        for _ in 0..2 {
            let question = ask(dice, sign, place(count, beside, index));
            if asks.iter().all(|known| known.question != question) {
                asks.push(Ask::open(question, sign.text.to_lowercase()));
            }
        }
    }
    Signs {
        words: readings
            .iter()
            .map(|reading| reading.text.clone())
            .collect(),
        picture: Picture {
            canvas,
            readings,
            objects: Vec::new(),
            asks,
        },
        question,
        answers,
        classes: if count == 1 {
            vec!["Sign"]
        } else {
            vec!["Sign", "Billboard"]
        },
    }
}

/// Where sign `index` of `count` is; nowhere in particular if it is alone.
fn place(count: usize, beside: bool, index: usize) -> Option<&'static str> {
    match (beside, index) {
        _ if count == 1 => None,
        (true, 0) => Some("on the left"),
        (true, n) if n + 1 == count => Some("on the right"),
        (false, 0) => Some("at the top"),
        (false, n) if n + 1 == count => Some("at the bottom"),
        _ => Some("in the middle"),
    }
}

fn sign(dice: &mut Dice, split: Split, color: usize) -> Sign {
    let kind = match dice.below(10) {
        0..7 => Kind::Word,
        7..9 => Kind::Number,
        _ => Kind::Price,
    };
    let mut words = Words { dice, split };
    let text = match kind {
        Kind::Word => words.word(),
        Kind::Number => {
            let digits = words.dice.between(3, 5) as u32;
            words.number(digits)
        }
        Kind::Price => words.price(),
    };
    let text = match dice.below(5) {
        0..3 => text.to_uppercase(),
        3 => capitalized(&text),
        _ => text,
    };
    Sign { text, kind, color }
}

/// A sky or a wall, with shapes that say nothing.
fn backdrop(dice: &mut Dice, width: usize, height: usize) -> Canvas {
    let any = |dice: &mut Dice| -> [u8; 3] { std::array::from_fn(|_| dice.between(70, 225) as u8) };
    let (top, bottom) = (any(dice), any(dice));
    let mut canvas = Canvas::gradient(width, height, top, bottom);
    for _ in 0..dice.between(2, 7) {
        let color = any(dice);
        let w = dice.between(20, width as i32 / 2) as f32;
        let h = dice.between(20, height as i32 / 2) as f32;
        let at = Placement::at(dice.below(width) as f32, dice.below(height) as f32);
        let shape = match dice.below(3) {
            0 => rounded(w, h, 0.0),
            1 => rounded(w, h, w.min(h) / 2.0),
            _ => polygon(&[(-w / 2.0, h / 2.0), (w / 2.0, h / 2.0), (0.0, -h / 2.0)]),
        };
        canvas.fill(&shape, &at, color);
    }
    let bits = dice.between(4, 6) as u32;
    canvas.mottle(dice, bits, 14);
    canvas
}

/// Draws a sign around a point, in its room.
fn hang(
    dice: &mut Dice,
    canvas: &mut Canvas,
    sign: &Sign,
    middle: (f32, f32),
    room: (f32, f32),
) -> Reading {
    const FACES: [Face; 5] = [
        Face::Amatic,
        Face::Fredoka,
        Face::HankenSemiBold,
        Face::Manrope,
        Face::SourceSerif,
    ];
    let face = *dice.pick(&FACES);
    // Condensed letters are small for their size.
    let narrow = if face == Face::Amatic { 1.35 } else { 1.0 };
    let wanted = dice.between(20, 96) as f32 * narrow;
    let plain = Line::new(face, &sign.text, wanted);
    let size = wanted
        * (0.8 * room.0 / plain.width)
            .min(0.5 * room.1 / wanted)
            .min(1.0);
    let line = Line::new(face, &sign.text, size);
    let (w, h) = (line.width + size * 0.8, size * 1.5);
    let slack = |room: f32, used: f32| ((room - used) / 2.0).max(0.0) as i32;
    let (sx, sy) = (slack(room.0, w), slack(room.1, h * 1.2));
    let (x, y) = (
        middle.0 + dice.between(-sx, sx) as f32,
        middle.1 + dice.between(-sy, sy) as f32,
    );
    let (cos, sin) = *dice.pick(&TILTS);
    let place = Placement {
        a: cos,
        b: -sin,
        c: sin,
        d: cos,
        e: x,
        f: y,
    };
    let ground = near(dice, COLORS[sign.color].1, 12);
    let ink = ink(dice, ground);
    let radius = *dice.pick(&[0.0, 0.15, 0.5]) * h;
    if dice.percent(60) {
        canvas.fill(&rounded(w + h * 0.16, h * 1.16, radius * 1.16), &place, ink);
    }
    canvas.fill(&rounded(w, h, radius), &place, ground);
    let start = Placement::at(-line.width / 2.0, 0.34 * size);
    Reading {
        on: Some(COLORS[sign.color].0),
        ..line.write(canvas, &place.after(&start), ink)
    }
}

fn ask(dice: &mut Dice, sign: &Sign, place: Option<&str>) -> String {
    let color = COLORS[sign.color].0;
    let which = match place {
        None => dice.pick(&["the sign", "this sign"]).to_string(),
        Some(place) if dice.percent(50) => format!("the sign {place}"),
        Some(_) => format!("the {color} sign"),
    };
    match sign.kind {
        Kind::Word => match dice.below(3) {
            0 => format!("what does {which} say?"),
            1 => format!("what is written on {which}?"),
            _ => format!("what word is on {which}?"),
        },
        Kind::Number => format!("what number is on {which}?"),
        Kind::Price => format!("what price is on {which}?"),
    }
}

/// Seven or more annotators read it right; the others are as annotators are.
fn annotate(dice: &mut Dice, answer: &str) -> Vec<String> {
    let right = dice.between(7, ANNOTATORS as i32) as usize;
    let mut answers = vec![answer.to_owned(); right];
    while answers.len() < ANNOTATORS {
        let shorter: String = answer.chars().take(answer.chars().count() - 1).collect();
        answers.push(match dice.below(4) {
            0 => format!("{answer} sign"),
            1 => shorter,
            2 => "unanswerable".to_owned(),
            _ => "answering does not require reading text in the image".to_owned(),
        });
    }
    dice.shuffle(&mut answers);
    answers
}
