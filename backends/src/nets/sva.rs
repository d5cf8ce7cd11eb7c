//! The spatial vision aggregator of Cambrian-1 (arXiv 2406.16860): learned
//! queries in a grid, each of which looks at its own window of several
//! encoders' features.
//!
//! It is a connector before the decoder ([`aggregate`]) and, again, a few
//! samplers inside it ([`look_after`]), which update the hidden states of the image's
//! positions. The windows of all queries are a batch: queries `(n, 1, width)`,
//! keys `(n, window², width)` an encoder.

use std::sync::Arc;

use crate::anyres::{Mosaic, Placement};
use crate::error::Result;
use crate::mix::Mix;
use crate::ops::{Act, Linear, Norm, Ops, Shape};

/// Epsilon of torch's layer norms.
const EPS: f32 = 1e-5;

/// What the aggregator is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvaConfig {
    /// Width of queries and keys.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Queries along a side.
    pub side: usize,
    /// Layers before the decoder.
    pub depth: usize,
    /// The encoders, in the order of their keys. The first one's mean is the
    /// context that every query sees.
    pub towers: Vec<SvaTower>,
    /// Samplers inside the decoder.
    pub samplers: Option<Samplers>,
}

/// What the aggregator sees of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvaTower {
    /// Channels of its features.
    pub dim: usize,
    /// Features along the side of a query's window.
    pub window: usize,
}

/// Where samplers stand in the decoder: after the layers `start`,
/// `start + stride`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samplers {
    /// Layer after which the first one stands.
    pub start: usize,
    /// Layers from one to the next.
    pub stride: usize,
    /// How many there are.
    pub count: usize,
}

impl Samplers {
    /// The sampler that stands after `layer`.
    pub fn after(&self, layer: usize) -> Option<usize> {
        let from = layer.checked_sub(self.start)?;
        let index = from / self.stride.max(1);
        (from % self.stride.max(1) == 0 && index < self.count).then_some(index)
    }
}

/// What samplers see of an image.
pub struct Seen<V> {
    /// Windows `(queries, window², width)` of the queries that are not padding,
    /// an encoder each.
    pub towers: Vec<V>,
    /// `(1, 1, width)`.
    pub context: V,
    /// Keys that are not looked at, `queries * keys`; `None` if there are none.
    pub hidden: Option<Arc<[bool]>>,
    /// How queries and row ends become the image's positions: token 0 is a row
    /// end, the query `i` token `i + 1`.
    pub mix: Mix,
}

/// How one image lies in the grid of queries.
pub struct SvaLayout {
    /// Queries that are not padding, and the vector that ends their rows
    /// (token 0), in the order in which the decoder sees them.
    pub mix: Mix,
    /// Keys that are padding, `queries * keys`, of all queries; `None` if there
    /// are none.
    pub hidden: Option<Arc<[bool]>>,
}

impl SvaConfig {
    /// Queries.
    pub fn queries(&self) -> usize {
        self.side * self.side
    }

    /// Keys of a query.
    fn keys(&self) -> usize {
        self.towers.iter().map(|t| t.window * t.window).sum()
    }

    /// Where an image, which was padded to a square, lies.
    pub fn layout(&self, place: &Placement) -> SvaLayout {
        let mosaic = Mosaic::square(self.side, 1);
        let (rows, columns) = mosaic.unpadded(place);
        let mut mix = Mix::default();
        for y in rows {
            columns.clone().for_each(|x| mix.copy(mosaic.source(y, x)));
            mix.copy(0);
        }
        SvaLayout {
            mix,
            hidden: self.hidden(place),
        }
    }

    /// Keys in the padding, but where an encoder's whole window is padding:
    /// then all of it is looked at.
    fn hidden(&self, place: &Placement) -> Option<Arc<[bool]>> {
        let keys = self.keys();
        let mut hidden = vec![false; self.queries() * keys];
        let mut first = 0;
        for tower in &self.towers {
            let window = tower.window;
            let mosaic = Mosaic::square(self.side * window, 0);
            let (rows, columns) = mosaic.unpadded(place);
            for query in 0..self.queries() {
                let (top, left) = (query / self.side * window, query % self.side * window);
                let cells = (0..window * window).map(|i| (top + i / window, left + i % window));
                let padding = |(y, x): (usize, usize)| !rows.contains(&y) || !columns.contains(&x);
                if cells.clone().all(padding) {
                    continue;
                }
                let at = query * keys + first;
                let flags = hidden[at..].iter_mut().zip(cells);
                flags.for_each(|(flag, cell)| *flag = padding(cell));
            }
            first += window * window;
        }
        hidden.iter().any(|flag| *flag).then(|| hidden.into())
    }

    /// The features of an encoder, row by row, as the windows of the queries.
    fn windows(&self, window: usize) -> Mix {
        let across = self.side * window;
        let mut mix = Mix::default();
        for query in 0..self.queries() {
            let (top, left) = (query / self.side * window, query % self.side * window);
            let cells =
                (0..window * window).map(|i| (top + i / window) * across + left + i % window);
            cells.for_each(|cell| mix.copy(cell));
        }
        mix
    }
}

fn linear(name: String, d_in: usize, d_out: usize, bias: bool, act: Act) -> Linear {
    Linear {
        name,
        d_in,
        d_out,
        bias,
        act,
    }
}

fn norm(name: String, dim: usize) -> Norm {
    Norm {
        name,
        dim,
        eps: EPS,
        act: Act::None,
    }
}

/// Features `(1, (side * window)², dim)`, an encoder each, to queries
/// `(1, side², width)` and what samplers see of them.
pub fn aggregate<O: Ops>(
    o: &mut O,
    c: &SvaConfig,
    features: &[O::V],
    layout: SvaLayout,
) -> Result<(O::V, Seen<O::V>)> {
    o.stage("aux");
    let mut towers = Vec::with_capacity(features.len());
    let mut context = None;
    for (i, (x, tower)) in features.iter().zip(&c.towers).enumerate() {
        let p = format!("aux.{i}");
        let x = o.linear(
            x,
            &linear(format!("{p}.0"), tower.dim, c.width, true, Act::Gelu),
            None,
        )?;
        let x = o.linear(
            &x,
            &linear(format!("{p}.1"), c.width, c.width, true, Act::None),
            None,
        )?;
        let mut x = o.layer_norm(&x, &norm(format!("{p}.norm"), c.width))?;
        if context.is_none() {
            let side = c.side * tower.window;
            let map = o.to_map(&x, side, side)?;
            context = Some(o.global_mean(&map)?);
        }
        if tower.window > 1 {
            x = o.mix_tokens(&x, &c.windows(tower.window))?;
        }
        towers.push(o.regroup(&x, c.queries())?);
    }
    let context = context.ok_or_else(no_towers)?;
    o.stage("sampler");
    // One learned query for all.
    let mut all = Mix::default();
    (0..c.queries()).for_each(|_| all.copy(0));
    let x = o.prepend_token(&context, "query")?;
    let x = o.mix_tokens(&x, &all)?;
    let mut x = o.regroup(&x, c.queries())?;
    let every = Seen {
        towers,
        context,
        hidden: layout.hidden,
        mix: layout.mix,
    };
    for i in 0..c.depth {
        x = layer(o, c, c.width, &format!("layers.{i}"), &x, &every)?;
    }
    let x = o.regroup(&x, 1)?;
    Ok((x, unpadded(o, c, every)?))
}

fn no_towers() -> crate::error::Error {
    crate::error::Error::Config {
        what: "towers".into(),
        value: "none".into(),
        problem: "the aggregator needs at least one encoder".into(),
    }
}

/// What is seen without the queries that are padding.
fn unpadded<O: Ops>(o: &mut O, c: &SvaConfig, seen: Seen<O::V>) -> Result<Seen<O::V>> {
    let kept: Vec<usize> = queries(&seen.mix).collect();
    if kept.len() == c.queries() {
        return Ok(seen);
    }
    let mut towers = Vec::with_capacity(seen.towers.len());
    for (x, tower) in seen.towers.iter().zip(&c.towers) {
        let cells = tower.window * tower.window;
        let mut rows = Mix::default();
        let sources = kept
            .iter()
            .flat_map(|query| query * cells..(query + 1) * cells);
        sources.for_each(|source| rows.copy(source));
        let x = o.regroup(x, 1)?;
        let x = o.mix_tokens(&x, &rows)?;
        towers.push(o.regroup(&x, kept.len())?);
    }
    let keys = c.keys();
    let hidden = seen.hidden.map(|all| {
        let rows = kept.iter().flat_map(|query| &all[query * keys..][..keys]);
        rows.copied().collect::<Arc<[bool]>>()
    });
    // Queries are counted without the padding from here on.
    let mut mix = Mix::default();
    let mut next = 0;
    for i in 0..seen.mix.len() {
        match seen.mix.taps(i)[0].0 {
            0 => mix.copy(0),
            _ => {
                next += 1;
                mix.copy(next);
            }
        }
    }
    Ok(Seen {
        towers,
        context: seen.context,
        hidden,
        mix,
    })
}

/// The queries among the tokens of an arrangement, in order.
fn queries(mix: &Mix) -> impl Iterator<Item = usize> + '_ {
    let sources = (0..mix.len()).map(|i| mix.taps(i)[0].0 as usize);
    sources.filter_map(|source| source.checked_sub(1))
}

/// What stands after decoder layer `index`: hidden states `(1, n, hidden)` of
/// which the positions of `images` (each from its first position on) have looked
/// at their image again, if a sampler stands there.
pub fn look_after<O: Ops>(
    o: &mut O,
    c: &SvaConfig,
    index: usize,
    mut x: O::V,
    images: &[(usize, &Seen<O::V>)],
) -> Result<O::V> {
    let sampler = c.samplers.and_then(|samplers| samplers.after(index));
    if let Some(sampler) = sampler {
        for (first, seen) in images {
            x = look(o, c, sampler, &x, *first, seen)?;
        }
    }
    Ok(x)
}

/// The sampler `index` on the positions of one image.
fn look<O: Ops>(
    o: &mut O,
    c: &SvaConfig,
    index: usize,
    x: &O::V,
    first: usize,
    seen: &Seen<O::V>,
) -> Result<O::V> {
    let (n, width) = match o.shape(x) {
        Shape::Tokens { n, d, .. } => (n, d),
        Shape::Map { h, w, c, .. } => (h * w, c),
    };
    let (mut out, mut back) = (Mix::default(), Mix::default());
    (0..first).for_each(|i| back.copy(i));
    for i in 0..seen.mix.len() {
        let position = first + i;
        if seen.mix.taps(i)[0].0 == 0 {
            back.copy(position);
        } else {
            back.copy(n + out.len());
            out.copy(position);
        }
    }
    (first + seen.mix.len()..n).for_each(|i| back.copy(i));
    o.stage("samplers");
    let queries = o.mix_tokens(x, &out)?;
    let queries = o.regroup(&queries, out.len())?;
    let y = layer(o, c, width, &format!("samplers.{index}"), &queries, seen)?;
    let y = o.regroup(&y, 1)?;
    let both = o.concat_tokens(&[x.clone(), y])?;
    o.mix_tokens(&both, &back)
}

/// One layer: queries `(n, 1, d)` and the context look at their windows.
fn layer<O: Ops>(
    o: &mut O,
    c: &SvaConfig,
    d: usize,
    p: &str,
    queries: &O::V,
    seen: &Seen<O::V>,
) -> Result<O::V> {
    let width = c.width;
    let n = o.shape(queries).rows();
    let plain =
        |name: &str, d_in, d_out| linear(format!("{p}.{name}"), d_in, d_out, false, Act::None);
    // The same for every query, so it is projected once.
    let context = o.linear(&seen.context, &plain("context", width, width), None)?;
    let mut all = Mix::default();
    (0..n).for_each(|_| all.copy(0));
    let context = o.mix_tokens(&context, &all)?;
    let context = o.regroup(&context, n)?;
    let x = o.concat_channels(&[queries.clone(), context])?;
    let x = o.linear(&x, &plain("in", d + width, width), None)?;

    let normed = |o: &mut O, name: &str, x: &O::V| -> Result<O::V> {
        let x = o.layer_norm(x, &norm(format!("{p}.{name}.norm"), width))?;
        o.linear(&x, &plain(&format!("{name}.linear"), width, width), None)
    };
    let q = normed(o, "q", &x)?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (i, (tower, config)) in seen.towers.iter().zip(&c.towers).enumerate() {
        let tower = match config.window {
            1 => tower.clone(),
            _ => o.add_positions(tower, &format!("{p}.positions.{i}"))?,
        };
        keys.push(normed(o, &format!("k.{i}"), &tower)?);
        values.push(normed(o, &format!("v.{i}"), &tower)?);
    }
    let hidden = seen.hidden.as_deref();
    let y = o.cross_attention(&q, &keys, &values, c.heads, hidden)?;
    let x = o.linear(&y, &plain("o", width, width), Some(&x))?;
    let x = o.layer_norm(&x, &norm(format!("{p}.norm"), width))?;
    let hidden = linear(format!("{p}.out.0"), width, width, false, Act::Gelu);
    o.mlp(&x, &hidden, &plain("out.1", width, d), Some(queries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SvaConfig {
        let tower = |window| SvaTower { dim: 8, window };
        SvaConfig {
            width: 8,
            heads: 2,
            side: 4,
            depth: 1,
            towers: vec![tower(1), tower(2)],
            samplers: None,
        }
    }

    fn place(width: u32, height: u32) -> Placement {
        Placement {
            width,
            height,
            grid: None,
        }
    }

    #[test]
    fn samplers_stand_after_every_third_layer() {
        let samplers = Samplers {
            start: 0,
            stride: 3,
            count: 10,
        };
        let after: Vec<usize> = (0..32).filter(|l| samplers.after(*l).is_some()).collect();
        assert_eq!(after, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]);
        assert_eq!(samplers.after(27), Some(9));
    }

    #[test]
    fn a_square_image_has_every_query_and_a_newline_a_row() {
        let layout = config().layout(&place(10, 10));
        assert_eq!(layout.mix.len(), 4 * 5);
        assert!(layout.hidden.is_none());
    }

    #[test]
    fn padding_is_neither_a_query_nor_a_key_but_for_whole_windows_of_it() {
        let c = config();
        // Twice as wide as high: rows 1 and 2 of 4, rows 2 to 5 of 8.
        let layout = c.layout(&place(20, 10));
        assert_eq!(
            queries(&layout.mix).collect::<Vec<_>>(),
            (4..12).collect::<Vec<_>>()
        );
        assert!(layout.hidden.is_none());
        // Rows 2 to 6 of 8 are not padding; rows 0 to 3 of 4 are not.
        let layout = c.layout(&place(80, 55));
        let hidden = layout.hidden.unwrap();
        // Query 0, keys: the first encoder's, then rows 0 and 1 of the second's.
        assert_eq!(hidden[..5], [false, true, true, false, false]);
    }

    #[test]
    fn windows_are_squares_of_neighbours() {
        let mix = config().windows(2);
        let first: Vec<u32> = (0..8).map(|i| mix.taps(i)[0].0).collect();
        assert_eq!(first, [0, 1, 8, 9, 2, 3, 10, 11]);
    }
}
