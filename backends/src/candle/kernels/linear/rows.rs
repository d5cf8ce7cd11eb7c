//! Where the left operand of a linear layer comes from: rows as they are, or
//! the patches of a map that a dense convolution multiplies.

use super::super::element::Element;

/// Where the rows of the left operand come from.
pub trait Rows<T>: Sync {
    /// Row length.
    fn width(&self) -> usize;

    /// All rows as one contiguous slice, if they are stored so.
    fn contiguous(&self) -> Option<&[T]>;

    /// Writes scalars `from .. from + dst.len()` of a row.
    fn fill(&self, row: usize, from: usize, dst: &mut [T]);
}

/// Rows stored one after another.
pub struct Dense<'a, T> {
    /// `rows * width` scalars.
    pub data: &'a [T],
    /// Row length.
    pub width: usize,
}

impl<T: Element> Rows<T> for Dense<'_, T> {
    fn width(&self) -> usize {
        self.width
    }

    fn contiguous(&self) -> Option<&[T]> {
        Some(self.data)
    }

    fn fill(&self, row: usize, from: usize, dst: &mut [T]) {
        let at = row * self.width + from;
        dst.copy_from_slice(&self.data[at..at + dst.len()]);
    }
}

/// Patches of a channels-last map `(b, h, w, c)`, a row per output pixel in
/// the order `(ky, kx, c)`, zero outside the map.
pub struct Patches<'a, T> {
    /// The map.
    pub data: &'a [T],
    /// Height, width and channels of the map.
    pub input: (usize, usize, usize),
    /// Height and width of the output.
    pub output: (usize, usize),
    /// Square kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub padding: usize,
}

impl<T: Element> Rows<T> for Patches<'_, T> {
    fn width(&self) -> usize {
        self.kernel * self.kernel * self.input.2
    }

    fn contiguous(&self) -> Option<&[T]> {
        None
    }

    fn fill(&self, row: usize, from: usize, dst: &mut [T]) {
        let (h, w, c) = self.input;
        let (oh, ow) = self.output;
        let (image, rest) = (row / (oh * ow), row % (oh * ow));
        let top = rest / ow * self.stride;
        let left = rest % ow * self.stride;
        // A kernel row is a run of the map, cut where it leaves the map.
        let run = self.kernel * c;
        let image = &self.data[image * h * w * c..][..h * w * c];
        let (mut ky, mut x) = if from == 0 {
            (0, 0)
        } else {
            (from / run, from % run)
        };
        let mut rest = dst;
        while !rest.is_empty() {
            let n = (run - x).min(rest.len());
            let (out, after) = rest.split_at_mut(n);
            rest = after;
            let y = (top + ky).wrapping_sub(self.padding);
            let start = (left * c + x).wrapping_sub(self.padding * c);
            if y >= h {
                out.fill(T::ZERO);
            } else if start < w * c && start + n <= w * c {
                out.copy_from_slice(&image[y * w * c + start..][..n]);
            } else {
                let line = &image[y * w * c..][..w * c];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = line.get(start.wrapping_add(i)).copied().unwrap_or(T::ZERO);
                }
            }
            (ky, x) = (ky + 1, 0);
        }
    }
}
