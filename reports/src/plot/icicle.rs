//! The icicle picture as data: blocks of time inside of blocks of time, and where they are drawn.
//!
//! A block is as wide as its share of its parent, its colour says how near it comes to what was
//! possible. Labels are cut to their blocks here, so that tests can see them.

use plotters::style::TextStyle;

use super::{HEIGHT, WIDTH, font, labels::Rect};

/// Left and right margin.
pub(super) const MARGIN: f64 = 45.0;
/// Upper edge of the outermost block.
const TOP: f64 = 178.0;
/// Height of a level above the last.
const LEVEL: f64 = 72.0;
/// Room below the blocks: axis and caption.
const BELOW: f64 = 190.0;
/// Free space between a block's edge and its label.
const PADDING: f64 = 6.0;

/// Where time goes, from the whole to the parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Icicle {
    /// Heading.
    pub title: String,
    /// Second line: on what it was measured.
    pub subtitle: String,
    /// What the colours mean, from 0 to 100%.
    pub shade_title: String,
    /// What blocks without a share are.
    pub unshaded_title: String,
    /// Paragraphs below the picture.
    pub caption: Vec<String>,
    /// Everything.
    pub root: Block,
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its name.
    pub label: String,
    /// Written after the name where there is room.
    pub detail: String,
    /// Milliseconds. Children fill their parent in proportion to theirs.
    pub ms: f64,
    /// How much of what was possible was reached, 0..1; grey if `None`.
    pub shade: Option<f64>,
    /// Parts, in order.
    pub children: Vec<Block>,
}

impl Block {
    /// Levels from this block to its deepest part, this one included.
    fn levels(&self) -> usize {
        let deepest = self.children.iter().map(Block::levels).max();
        1 + deepest.unwrap_or(0)
    }
}

/// A block in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<'a> {
    pub block: &'a Block,
    pub rect: Rect,
}

/// A label in its block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    pub text: String,
    /// Whether it reads upwards.
    pub upwards: bool,
}

impl Icicle {
    /// The area of the blocks.
    pub(super) fn area(&self) -> Rect {
        Rect {
            left: MARGIN,
            top: TOP,
            right: f64::from(WIDTH) - MARGIN,
            bottom: f64::from(HEIGHT) - BELOW,
        }
    }

    /// Every block that has a width, parents before their parts. The last level takes the height
    /// that the others leave, because its blocks are narrow and their labels read upwards.
    pub(super) fn placed(&self) -> Vec<Placed<'_>> {
        let area = self.area();
        let last = self.root.levels() - 1;
        let rows: Vec<(f64, f64)> = (0..=last)
            .map(|level| {
                let top = area.top + LEVEL * level as f64;
                let bottom = if level == last {
                    area.bottom
                } else {
                    top + LEVEL
                };
                (top, bottom)
            })
            .collect();
        let mut placed = Vec::new();
        place(&self.root, (area.left, area.right), &rows, &mut placed);
        placed
    }
}

fn place<'a>(
    block: &'a Block,
    (left, right): (f64, f64),
    rows: &[(f64, f64)],
    placed: &mut Vec<Placed<'a>>,
) {
    let Some((&(top, bottom), below)) = rows.split_first() else {
        return;
    };
    let rect = Rect {
        left,
        top,
        right,
        bottom,
    };
    placed.push(Placed { block, rect });
    let total: f64 = block.children.iter().map(|child| child.ms.max(0.0)).sum();
    if total <= 0.0 {
        return;
    }
    let (mut x, mut sum) = (left, 0.0);
    for child in &block.children {
        sum += child.ms.max(0.0);
        let end = left + (right - left) * (sum / total);
        if end > x {
            place(child, (x, end), below, placed);
        }
        x = end;
    }
}

/// The most that fits into a block: name and detail, the name, the beginning of the name; lying, or
/// upwards where the block is narrow and high.
pub(super) fn label(placed: &Placed<'_>, style: &TextStyle<'_>) -> Option<Label> {
    let Placed { block, rect } = placed;
    let (width, height) = (rect.right - rect.left, rect.bottom - rect.top);
    let line = style.font.get_size();
    let full = match block.detail.as_str() {
        "" => block.label.clone(),
        detail => format!("{}  {detail}", block.label),
    };
    for (upwards, along, across) in [(false, width, height), (true, height, width)] {
        let room = along - 2.0 * PADDING;
        if across < line + 2.0 {
            continue;
        }
        let whole = [&full, &block.label]
            .into_iter()
            .find(|text| font::width(text, style) <= room);
        if let Some(text) = whole {
            let text = text.clone();
            return Some(Label { text, upwards });
        }
        // A narrow block may still hold its whole name upwards.
        if !upwards && height > width {
            continue;
        }
        if let Some(text) = font::cut(&block.label, style, room) {
            return Some(Label { text, upwards });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use plotters::style::BLACK;

    use super::*;

    fn block(label: &str, ms: f64, children: Vec<Block>) -> Block {
        Block {
            label: label.into(),
            detail: format!("{ms} ms"),
            ms,
            shade: Some(0.5),
            children,
        }
    }

    fn sample() -> Icicle {
        let ops = |n: usize| (0..n).map(|i| block(&format!("layers.{i}.ffn.fc1"), 1.0, vec![]));
        let encode = block(
            "encode",
            60.0,
            vec![block("stage1", 59.0, ops(30).collect())],
        );
        let prefill = block(
            "prefill",
            30.0,
            vec![block("layers", 28.0, ops(200).collect())],
        );
        let nothing = block("project", 0.0, vec![]);
        Icicle {
            title: "t".into(),
            subtitle: "s".into(),
            shade_title: "share".into(),
            unshaded_title: "unknown".into(),
            caption: vec![],
            root: block("model", 90.0, vec![encode, nothing, prefill]),
        }
    }

    #[test]
    fn parts_fill_their_parent_in_proportion() {
        let icicle = sample();
        let placed = icicle.placed();
        let find = |name: &str| {
            let found = placed.iter().find(|p| p.block.label == name);
            found.unwrap_or_else(|| panic!("{name} is not drawn")).rect
        };
        let (model, encode, prefill) = (find("model"), find("encode"), find("prefill"));
        assert_eq!((encode.left, prefill.right), (model.left, model.right));
        assert!((encode.right - prefill.left).abs() < 1e-9);
        let share = (encode.right - encode.left) / (model.right - model.left);
        assert!((share - 2.0 / 3.0).abs() < 1e-9);
        // A stage fills its phase even if a little time lies outside of it.
        assert!((find("stage1").right - encode.right).abs() < 1e-9);
        assert_eq!(find("stage1").top, encode.bottom);
        assert!(placed.iter().all(|p| p.block.label != "project"));
        assert_eq!(placed.len(), 1 + 2 + 2 + 230);
        let area = icicle.area();
        for p in &placed {
            assert!(p.rect.left >= area.left - 1e-6 && p.rect.right <= area.right + 1e-6);
            assert!(p.rect.bottom <= area.bottom);
        }
    }

    #[test]
    fn labels_stay_inside_their_blocks() {
        let icicle = sample();
        let style = font::text(15.0, false, BLACK);
        let mut upwards = 0;
        for placed in icicle.placed() {
            let Some(label) = label(&placed, &style) else {
                continue;
            };
            let rect = placed.rect;
            let (width, height) = (rect.right - rect.left, rect.bottom - rect.top);
            let (along, across) = match label.upwards {
                true => (height, width),
                false => (width, height),
            };
            assert!(font::width(&label.text, &style) <= along, "{label:?}");
            assert!(style.font.get_size() <= across, "{label:?}");
            upwards += usize::from(label.upwards);
        }
        assert_eq!(upwards, 30, "the wide operations, and no narrow one");
    }

    #[test]
    fn a_name_is_cut_before_it_is_dropped() {
        let style = font::text(15.0, false, BLACK);
        let long = block("stages.4.blocks.1.ffn.fc1", 1.0, vec![]);
        let within = |right: f64| {
            let rect = Rect {
                left: 0.0,
                top: 0.0,
                right,
                bottom: 40.0,
            };
            label(&Placed { block: &long, rect }, &style).map(|l| l.text)
        };
        assert_eq!(within(400.0).unwrap(), "stages.4.blocks.1.ffn.fc1  1 ms");
        let name = font::width(&long.label, &style) + 2.0 * PADDING;
        assert_eq!(within(name).unwrap(), "stages.4.blocks.1.ffn.fc1");
        assert!(within(name - 1.0).unwrap().ends_with('…'));
        assert!(within(90.0).unwrap().ends_with('…'));
        assert_eq!(within(20.0), None);
    }
}
