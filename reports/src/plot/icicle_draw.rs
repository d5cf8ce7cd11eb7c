//! From an [`Icicle`] to SVG and PNG.

use plotters::{
    prelude::DrawingBackend,
    style::{
        RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    HEIGHT, Icicle, WIDTH,
    canvas::{Canvas, Drawn, faint},
    font,
    icicle::{MARGIN, label},
    layout::{CAPTION_LINE, INK, SOFT_INK},
    picture::Picture,
    scale::{Scale, time_label},
};

/// Colours from nothing to all of what was possible: vermilion, a pale yellow, blue. Both ends are of
/// the palette of Okabe and Ito (2008), and the middle is the lightest, so that the order is seen with
/// any colour vision.
const SHADES: [(f64, RGBColor); 3] = [
    (0.0, RGBColor(213, 94, 0)),
    (0.5, RGBColor(250, 240, 200)),
    (1.0, RGBColor(0, 114, 178)),
];
/// A block of which no share is known.
const UNKNOWN: RGBColor = RGBColor(214, 214, 214);
/// Blocks narrower than this have no gap to their neighbour, which would be all that is seen of them.
const GAP_FROM: f64 = 4.0;

impl Picture for Icicle {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        texts(self, canvas)?;
        legend(self, canvas)?;
        axis(self, canvas)?;
        blocks(self, canvas)
    }
}

/// The colour of a share.
fn shade(share: Option<f64>) -> RGBColor {
    let Some(share) = share.filter(|share| share.is_finite()) else {
        return UNKNOWN;
    };
    let share = share.clamp(0.0, 1.0);
    let between = SHADES.windows(2).find(|pair| share <= pair[1].0);
    let [(low, from), (high, to)] = between.unwrap_or(&SHADES[1..]) else {
        return UNKNOWN;
    };
    let along = (share - low) / (high - low);
    let mix = |a: u8, b: u8| (f64::from(a) + along * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Ink that is read on a colour: white on the dark ones.
fn ink_on(color: RGBColor) -> RGBColor {
    let luma = 0.299 * f64::from(color.0) + 0.587 * f64::from(color.1) + 0.114 * f64::from(color.2);
    if luma < 125.0 { WHITE } else { INK }
}

fn texts<B: DrawingBackend>(icicle: &Icicle, canvas: &Canvas<'_, B>) -> Drawn<B> {
    let left = Pos::new(HPos::Left, VPos::Top);
    let title = font::text(36.0, true, INK);
    canvas.text(&icicle.title, &title, (MARGIN, 26.0), left)?;
    let subtitle = font::text(20.0, false, SOFT_INK);
    canvas.text(&icicle.subtitle, &subtitle, (MARGIN, 74.0), left)?;
    let caption = font::text(18.0, false, SOFT_INK);
    let room = f64::from(WIDTH) - 2.0 * MARGIN;
    let lines = icicle.caption.iter();
    let lines = lines.flat_map(|text| font::wrap(text, &caption, room));
    let mut y = icicle.area().bottom + 62.0;
    for line in lines {
        canvas.text(&line, &caption, (MARGIN, y), left)?;
        y += CAPTION_LINE;
    }
    Ok(())
}

/// The colours as a bar with their shares.
fn legend<B: DrawingBackend>(icicle: &Icicle, canvas: &Canvas<'_, B>) -> Drawn<B> {
    const STEPS: usize = 60;
    const BAR: (f64, f64) = (300.0, 18.0);
    let style = font::text(18.0, false, INK);
    let middle = 132.0;
    let centred = Pos::new(HPos::Left, VPos::Center);
    let mut x = MARGIN;
    let text = |text: &str, x: &mut f64| {
        let drawn = canvas.text(text, &style, (*x, middle), centred);
        *x += font::width(text, &style) + 12.0;
        drawn
    };
    text(&icicle.shade_title, &mut x)?;
    text("0%", &mut x)?;
    let (top, bottom) = (middle - BAR.1 / 2.0, middle + BAR.1 / 2.0);
    for step in 0..STEPS {
        let share = |n: usize| n as f64 / STEPS as f64;
        let color = shade(Some(share(step) + 0.5 / STEPS as f64));
        let from = (x + BAR.0 * share(step), top);
        canvas.rectangle(
            from,
            (x + BAR.0 * share(step + 1), bottom),
            faint(color, 1.0),
        )?;
    }
    x += BAR.0 + 12.0;
    text("100%", &mut x)?;
    x += 24.0;
    canvas.rectangle((x, top), (x + 30.0, bottom), faint(UNKNOWN, 1.0))?;
    x += 42.0;
    text(&icicle.unshaded_title, &mut x)
}

fn axis<B: DrawingBackend>(icicle: &Icicle, canvas: &Canvas<'_, B>) -> Drawn<B> {
    let area = icicle.area();
    let style = font::text(18.0, false, INK);
    let scale = Scale::from_zero(icicle.root.ms.max(1e-6), (area.left, area.right));
    let y = area.bottom + 8.0;
    canvas.line(&[(area.left, y), (area.right, y)], faint(INK, 1.0), 1.4)?;
    for tick in scale.ticks() {
        let x = scale.pixel(tick);
        canvas.line(&[(x, y), (x, y + 7.0)], faint(INK, 1.0), 1.4)?;
        // The outermost labels must not leave the picture.
        let side = match x {
            x if x < area.left + 20.0 => HPos::Left,
            x if x > area.right - 20.0 => HPos::Right,
            _ => HPos::Center,
        };
        canvas.text(
            &time_label(tick),
            &style,
            (x, y + 12.0),
            Pos::new(side, VPos::Top),
        )?;
    }
    Ok(())
}

fn blocks<B: DrawingBackend>(icicle: &Icicle, canvas: &Canvas<'_, B>) -> Drawn<B> {
    for placed in icicle.placed() {
        let rect = placed.rect;
        let color = shade(placed.block.shade);
        let width = rect.right - rect.left;
        let gap = if width >= GAP_FROM { 1.0 } else { 0.0 };
        let corner = (rect.right - gap, rect.bottom - 2.0);
        canvas.rectangle((rect.left, rect.top), corner, faint(color, 1.0))?;
        // Parts of whole models are many: small letters for them, large ones above.
        let size = if placed.block.children.is_empty() {
            15.0
        } else {
            19.0
        };
        let style = font::text(size, false, ink_on(color));
        let Some(label) = label(&placed, &style) else {
            continue;
        };
        let centre = (
            (rect.left + rect.right - gap) / 2.0,
            (rect.top + rect.bottom - 2.0) / 2.0,
        );
        if label.upwards {
            canvas.upward_text(&label.text, &style, centre)?;
        } else {
            let middle = Pos::new(HPos::Center, VPos::Center);
            canvas.text(&label.text, &style, centre, middle)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_run_from_end_to_end_and_stay_there() {
        assert_eq!(shade(Some(0.0)), SHADES[0].1);
        assert_eq!(shade(Some(0.5)), SHADES[1].1);
        assert_eq!(shade(Some(1.0)), SHADES[2].1);
        assert_eq!(shade(Some(7.0)), SHADES[2].1);
        assert_eq!(shade(Some(-1.0)), SHADES[0].1);
        assert_eq!(shade(None), UNKNOWN);
        assert_eq!(shade(Some(f64::NAN)), UNKNOWN);
        assert_eq!(ink_on(SHADES[2].1), WHITE);
        assert_eq!(ink_on(SHADES[1].1), INK);
    }
}
