//! Document pages in the manner of DocVQA: forms, invoices and tables in
//! several type sizes, of which the small ones need resolution.

use super::canvas::{Canvas, Placement, rounded};
use super::dice::Dice;
use super::lettering::{Face, Line};
use super::palette::near;
use super::words::Words;
use super::{Ask, Picture, Split};

/// Longer side of a page in pixels.
const HEIGHT: usize = 512;
/// Pixels per em of body text, from print that needs all the resolution there
/// is to print that little suffices for.
const SIZES: [f32; 5] = [11.0, 14.0, 18.0, 23.0, 30.0];

/// One question on a page.
pub(super) struct Page {
    pub(super) picture: Picture,
    pub(super) question: String,
    pub(super) answers: Vec<String>,
    pub(super) types: Vec<&'static str>,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Value {
    Name,
    Person,
    Code,
    Date,
    Phone,
    Price,
    Number,
}

const FIELDS: &[(&str, Value)] = &[
    ("Name", Value::Person),
    ("Customer", Value::Person),
    ("Manager", Value::Person),
    ("Author", Value::Person),
    ("City", Value::Name),
    ("Street", Value::Name),
    ("Company", Value::Name),
    ("Department", Value::Name),
    ("Product", Value::Name),
    ("Invoice No", Value::Code),
    ("Order No", Value::Code),
    ("Account", Value::Code),
    ("Reference", Value::Code),
    ("Date", Value::Date),
    ("Due Date", Value::Date),
    ("Start Date", Value::Date),
    ("Phone", Value::Phone),
    ("Fax", Value::Phone),
    ("Total", Value::Price),
    ("Amount", Value::Price),
    ("Fee", Value::Price),
    ("Deposit", Value::Price),
    ("Room", Value::Number),
    ("Weight", Value::Number),
    ("Score", Value::Number),
];
const COLUMNS: &[(&str, Value)] = &[
    ("City", Value::Name),
    ("Phone", Value::Phone),
    ("Code", Value::Code),
    ("Score", Value::Number),
    ("Fee", Value::Price),
];
/// What an invoice lists. Like labels of fields, and unlike what is asked for, these are of the
/// language: a reader who knows it looks for a word, not for a string never seen before.
const GOODS: &[&str] = &[
    "Bread", "Butter", "Candle", "Chair", "Coffee", "Cups", "Desk", "Fan", "Gloves", "Ink",
    "Juice", "Lamp", "Milk", "Mirror", "Paint", "Paper", "Pen", "Rice", "Rope", "Soap", "Sugar",
    "Tea", "Towel", "Wine",
];
/// Whom the rows of a table are about.
const PEOPLE: &[&str] = &[
    "Adam", "Alice", "Anna", "Ben", "Clara", "Daniel", "David", "Emma", "Frank", "George", "Helen",
    "Irene", "Jack", "Julia", "Karl", "Laura", "Maria", "Martin", "Nora", "Oscar", "Paul", "Peter",
    "Sarah", "Victor",
];
const TITLES: &[&str] = &[
    "Registration Form",
    "Application",
    "Order Form",
    "Delivery Note",
    "Record Sheet",
    "Account Summary",
    "Memorandum",
    "Travel Request",
];

fn value(dice: &mut Dice, split: Split, kind: Value) -> String {
    let mut words = Words { dice, split };
    match kind {
        Value::Name => words.name(),
        Value::Person => {
            let first = words.name();
            match words.dice.percent(50) {
                true => first,
                false => format!("{first} {}", words.name()),
            }
        }
        Value::Code => words.code(),
        Value::Date => words.date(),
        Value::Phone => words.phone(),
        Value::Price => words.price(),
        Value::Number => {
            let digits = words.dice.between(3, 4) as u32;
            words.number(digits)
        }
    }
}

/// A sheet that is written on from top to bottom.
struct Sheet {
    picture: Picture,
    face: Face,
    ink: [u8; 3],
    size: f32,
    margin: f32,
    y: f32,
}

impl Sheet {
    fn new(dice: &mut Dice) -> Self {
        let width = dice.between(352, HEIGHT as i32) as usize;
        let paper = *dice.pick(&[
            [255, 255, 255],
            [250, 248, 240],
            [242, 244, 248],
            [236, 232, 220],
        ]);
        let mut canvas =
            Canvas::gradient(width, HEIGHT, near(dice, paper, 3), near(dice, paper, 3));
        canvas.mottle(dice, 6, 4);
        let face = *dice.pick(&[
            Face::Hanken,
            Face::HankenSemiBold,
            Face::SourceSerif,
            Face::Manrope,
        ]);
        let size = *dice.pick(&SIZES);
        let margin = dice.between(14, 40) as f32;
        let ink = *dice.pick(&[[15, 15, 20], [40, 40, 48], [20, 30, 80]]);
        Self {
            picture: Picture {
                canvas,
                readings: Vec::new(),
                objects: Vec::new(),
                asks: Vec::new(),
            },
            face,
            ink,
            size,
            margin,
            y: dice.between(14, 36) as f32,
        }
    }

    fn width(&self) -> f32 {
        self.picture.canvas.width as f32
    }

    /// Lines of body text that still fit.
    fn lines_left(&self, leading: f32) -> usize {
        let left = HEIGHT as f32 - 16.0 - self.y;
        (left / (self.size * leading)).max(0.0) as usize
    }

    /// Whether a text fits between `x` and the right margin.
    fn fits(&self, face: Face, text: &str, x: f32) -> bool {
        x + Line::new(face, text, self.size).width < self.width() - 8.0
    }

    /// Writes a text on the line that ends at `y + size`; returns its end.
    fn write(&mut self, face: Face, text: &str, size: f32, x: f32) -> f32 {
        let line = Line::new(face, text, size);
        let place = Placement::at(x, self.y + 0.8 * size);
        let reading = line.write(&mut self.picture.canvas, &place, self.ink);
        self.picture.readings.push(reading);
        x + line.width
    }

    fn rule(&mut self, from: f32, to: f32, y: f32) {
        let line = rounded(to - from, 1.2, 0.0);
        let at = Placement::at((from + to) / 2.0, y);
        self.picture.canvas.fill(&line, &at, self.ink);
    }

    fn title(&mut self, dice: &mut Dice, text: &str) {
        let wanted = dice.between(24, 34) as f32;
        let room = (self.width() - 2.0 * self.margin)
            / Line::new(Face::HankenSemiBold, text, wanted).width;
        let size = wanted * room.min(1.0);
        self.write(Face::HankenSemiBold, text, size, self.margin);
        self.y += size * 1.6;
        if dice.percent(50) {
            self.rule(self.margin, self.width() - self.margin, self.y - size * 0.3);
        }
    }
}

/// Draws a page with a question for one split.
pub(super) fn draw(dice: &mut Dice, split: Split) -> Page {
    let mut sheet = Sheet::new(dice);
    match dice.below(3) {
        0 => {
            let title = *dice.pick(TITLES);
            sheet.title(dice, title);
            form(dice, split, sheet, 8)
        }
        1 => {
            sheet.title(dice, "Invoice");
            invoice(dice, split, sheet)
        }
        _ => {
            let title = *dice.pick(&["Members", "Staff List", "Participants", "Results"]);
            sheet.title(dice, title);
            table(dice, split, sheet)
        }
    }
}

/// Writes `Label: value` lines; returns the pairs.
fn fields(
    dice: &mut Dice,
    split: Split,
    sheet: &mut Sheet,
    most: usize,
) -> Vec<(&'static str, String)> {
    let leading = *dice.pick(&[1.5, 1.8, 2.2]);
    let count = sheet.lines_left(leading).min(most).max(1);
    let order = dice.some(FIELDS, FIELDS.len());
    // Values in a column of their own, or right after their labels.
    let aligned = dice.percent(50);
    let column = sheet.margin + Line::new(sheet.face, "Department:  ", sheet.size).width;
    let mut pairs = Vec::new();
    for (label, kind) in order {
        if pairs.len() == count {
            break;
        }
        let text = value(dice, split, kind);
        let mark = format!("{label}:");
        let end = sheet.margin + Line::new(sheet.face, &mark, sheet.size).width + 0.35 * sheet.size;
        let x = if aligned { column.max(end) } else { end };
        if !sheet.fits(sheet.face, &text, x) {
            continue;
        }
        sheet.write(sheet.face, &mark, sheet.size, sheet.margin);
        sheet.write(sheet.face, &text, sheet.size, x);
        sheet.y += sheet.size * leading;
        pairs.push((label, text));
    }
    pairs
}

fn about(label: &str, dice: &mut Dice) -> String {
    let label = label.to_lowercase().replace(" no", " number");
    match dice.below(3) {
        0 => format!("What is the {label}?"),
        1 => format!("What {label} is given?"),
        _ => format!("What is the {label} on this page?"),
    }
}

/// Asks about every field.
fn ask_all(dice: &mut Dice, picture: &mut Picture, pairs: &[(&'static str, String)]) {
    for (label, text) in pairs {
        picture
            .asks
            .push(Ask::open(about(label, dice), text.clone()));
    }
}

fn form(dice: &mut Dice, split: Split, mut sheet: Sheet, most: usize) -> Page {
    let pairs = fields(dice, split, &mut sheet, most);
    let (label, text) = dice.pick(&pairs).clone();
    let question = about(label, dice);
    // Thrown last, so that the data set is the same with and without them.
    ask_all(dice, &mut sheet.picture, &pairs);
    Page {
        picture: sheet.picture,
        question,
        answers: vec![text],
        types: vec!["form"],
    }
}

fn invoice(dice: &mut Dice, split: Split, mut sheet: Sheet) -> Page {
    let pairs = fields(dice, split, &mut sheet, 2);
    sheet.y += sheet.size * 0.4;
    let right = sheet.width() - sheet.margin;
    let amounts = right - Line::new(sheet.face, "$00.00", sheet.size).width;
    let count = sheet.lines_left(1.6).saturating_sub(2).clamp(1, 5);
    sheet.write(Face::HankenSemiBold, "Item", sheet.size, sheet.margin);
    sheet.write(Face::HankenSemiBold, "Price", sheet.size, amounts);
    sheet.y += sheet.size * 1.6;
    sheet.rule(sheet.margin, right, sheet.y - sheet.size * 0.35);
    let mut items = Vec::new();
    for item in dice.some(GOODS, count) {
        let price = Words { dice, split }.price();
        sheet.write(sheet.face, item, sheet.size, sheet.margin);
        sheet.write(sheet.face, &price, sheet.size, amounts);
        sheet.y += sheet.size * 1.6;
        items.push((item, price));
    }
    let price_of = |item: &str| format!("What is the price of {item}?");
    let (question, answer) = match dice.percent(70) {
        true => {
            let (item, price) = dice.pick(&items).clone();
            (price_of(item), price)
        }
        false => {
            let (label, text) = dice.pick(&pairs).clone();
            (about(label, dice), text)
        }
    };
    ask_all(dice, &mut sheet.picture, &pairs);
    for (item, price) in items {
        let ask = Ask::open(price_of(item), price);
        sheet.picture.asks.push(ask);
    }
    Page {
        picture: sheet.picture,
        question,
        answers: vec![answer],
        types: vec!["table/list"],
    }
}

fn table(dice: &mut Dice, split: Split, mut sheet: Sheet) -> Page {
    let usable = sheet.width() - 2.0 * sheet.margin;
    let needed = Line::new(sheet.face, "00000000 ", sheet.size).width;
    let columns = ((usable / needed) as usize).saturating_sub(1).clamp(1, 3);
    let columns = dice.some(COLUMNS, columns);
    let step = usable / (columns.len() + 1) as f32;
    let rows = sheet.lines_left(1.7).saturating_sub(1).clamp(1, 7);
    sheet.write(Face::HankenSemiBold, "Name", sheet.size, sheet.margin);
    for (i, (header, _)) in columns.iter().enumerate() {
        let x = sheet.margin + step * (i + 1) as f32;
        sheet.write(Face::HankenSemiBold, header, sheet.size, x);
    }
    sheet.y += sheet.size * 1.7;
    sheet.rule(
        sheet.margin,
        sheet.width() - sheet.margin,
        sheet.y - sheet.size * 0.4,
    );
    let mut cells: Vec<(&str, &str, String)> = Vec::new();
    for name in dice.some(PEOPLE, rows) {
        sheet.write(sheet.face, name, sheet.size, sheet.margin);
        for (i, (header, kind)) in columns.iter().enumerate() {
            let text = value(dice, split, *kind);
            let x = sheet.margin + step * (i + 1) as f32;
            sheet.write(sheet.face, &text, sheet.size, x);
            cells.push((name, header, text));
        }
        sheet.y += sheet.size * 1.7;
    }
    let of = |name: &str, header: &str| format!("What is the {} of {name}?", header.to_lowercase());
    let (name, header, text) = dice.pick(&cells).clone();
    let asks = cells.into_iter();
    let asks = asks.map(|(name, header, text)| Ask::open(of(name, header), text));
    sheet.picture.asks = asks.collect();
    Page {
        picture: sheet.picture,
        question: of(name, header),
        answers: vec![text],
        types: vec!["table/list"],
    }
}
