//! The inventory of a network's parameters: canonical names, shapes and kinds.
//!
//! The inventory is not written down anywhere: it is what the `cost`
//! interpreter sees when it walks the network ([`crate::cost`]). The strict
//! loader checks a checkpoint against it, seeded weights are drawn from it, and
//! an engine prepares tensors by their [`ParamKind`].
//!
//! Canonical names end in `.weight` or `.bias` (class token and position table
//! have no suffix). Networks only know the inference form: batch norms, layer
//! scales and re-parameterisable branches are folded by the loader.

/// What a parameter is used for, which decides how an engine stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// `(out, in)` matrix, whose rows may also be looked up (tied embeddings).
    Linear,
    /// `(out, in, k, k)` dense convolution kernel.
    Conv,
    /// `(out, 1, k, k)` depthwise convolution kernel.
    Depthwise,
    /// `(rows, dim)` table read by row.
    Table,
    /// Bias, added.
    Bias,
    /// Norm weight, multiplied.
    Scale,
}

/// One parameter of the canonical layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// Canonical name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Use.
    pub kind: ParamKind,
}

impl ParamSpec {
    /// Number of scalars.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
