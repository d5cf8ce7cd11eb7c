//! A graph that ONNX Runtime has loaded, with its inputs and outputs by name.
//!
//! Graphs made by others differ in the type of their floats, in inputs that
//! they leave out, and in whether they are what their names promise; that is
//! seen to here, when they are loaded.

use std::borrow::Cow;
use std::fmt::Debug;
use std::path::Path;

use half::f16;
use ort::session::{Session, SessionInputValue};
use ort::value::{
    DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef,
};

use super::session::{Loader, failed};
use crate::error::{Error, Result};

/// A loaded graph.
pub struct Graph {
    /// Its file, for messages.
    name: String,
    session: Session,
}

/// A value to feed, under the name of its input.
pub type Fed<'a> = (Cow<'a, str>, SessionInputValue<'a>);

/// Values in row-major order with their shape.
pub type Floats = (Vec<usize>, Vec<f32>);

impl Graph {
    /// Loads the graph at `path`, which must have `inputs` and `outputs`, and
    /// no further inputs than `inputs` and `optional` ones.
    pub fn open(
        loader: &Loader<'_>,
        path: &Path,
        inputs: &[&str],
        optional: &[&str],
        outputs: &[&str],
    ) -> Result<Graph> {
        let graph = Graph {
            session: loader.open(path)?,
            name: path.display().to_string(),
        };
        let names = |outlets: &[Outlet]| -> Vec<String> {
            outlets.iter().map(|o| o.name().to_owned()).collect()
        };
        let has = (
            names(graph.session.inputs()),
            names(graph.session.outputs()),
        );
        for (what, wanted, found) in [("input", inputs, &has.0), ("output", outputs, &has.1)] {
            if let Some(missing) = wanted.iter().find(|w| !found.iter().any(|f| f == *w)) {
                return Err(graph.misfit(
                    format!("{what} `{missing}`"),
                    format!("an {what} of this name"),
                    format!("only {}", found.join(", ")),
                ));
            }
        }
        let known = [inputs, optional].concat();
        if let Some(strange) = has.0.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(graph.misfit(
                format!("input `{strange}`"),
                format!("no inputs besides {}", known.join(", ")),
                "one that nothing is known to feed".into(),
            ));
        }
        Ok(graph)
    }

    fn misfit(&self, what: String, expected: String, got: String) -> Error {
        Error::Graph {
            file: self.name.clone(),
            what,
            expected,
            got,
        }
    }

    /// Whether there is an input `name`.
    pub fn takes(&self, name: &str) -> bool {
        self.session.inputs().iter().any(|i| i.name() == name)
    }

    /// Element type and dimensions of an input, -1 where they are free.
    fn input(&self, name: &str) -> Result<(TensorElementType, Vec<i64>)> {
        let input = self.session.inputs().iter().find(|i| i.name() == name);
        let dtype = input.map(|i| i.dtype());
        match dtype.and_then(|d| Some((d.tensor_type()?, d.tensor_shape()?))) {
            Some((ty, shape)) => Ok((ty, shape.to_vec())),
            None => Err(self.misfit(
                format!("input `{name}`"),
                "a tensor".into(),
                dtype.map_or("no such input".into(), |d| format!("{d:?}")),
            )),
        }
    }

    /// Errors unless the input has these dimensions, where both fix them.
    pub fn expect(&self, name: &str, dims: &[Option<usize>]) -> Result<()> {
        let (_, found) = self.input(name)?;
        let fits = |(wanted, found): (&Option<usize>, &i64)| {
            wanted.is_none_or(|w| *found < 0 || *found == w as i64)
        };
        if found.len() == dims.len() && dims.iter().zip(&found).all(fits) {
            return Ok(());
        }
        let text = |dims: Vec<Option<usize>>| {
            let dim = |d: Option<usize>| d.map_or("any".to_owned(), |d| d.to_string());
            format!(
                "({})",
                dims.into_iter().map(dim).collect::<Vec<_>>().join(", ")
            )
        };
        Err(self.misfit(
            format!("input `{name}`"),
            format!("dimensions {}", text(dims.to_vec())),
            text(found.iter().map(|d| usize::try_from(*d).ok()).collect()),
        ))
    }

    /// Floats as the input `name` takes them.
    pub fn floats<'a>(&self, name: &'a str, shape: &[usize], data: &'a [f32]) -> Result<Fed<'a>> {
        let value = match self.input(name)?.0 {
            TensorElementType::Float32 => view(name, shape, data)?,
            TensorElementType::Float16 => {
                let half: Vec<f16> = data.iter().map(|v| f16::from_f32(*v)).collect();
                owned(name, shape, half)?.into()
            }
            other => return Err(self.not_floats(name, other)),
        };
        Ok((name.into(), value))
    }

    /// A tensor without elements of the type of input `name`.
    pub fn empty(&self, name: &str, shape: &[usize]) -> Result<DynValue> {
        match self.input(name)?.0 {
            TensorElementType::Float32 => owned(name, shape, Vec::<f32>::new()),
            TensorElementType::Float16 => owned(name, shape, Vec::<f16>::new()),
            other => Err(self.not_floats(name, other)),
        }
    }

    fn not_floats(&self, name: &str, got: TensorElementType) -> Error {
        self.misfit(
            format!("input `{name}`"),
            "f32 or f16".into(),
            format!("{got:?}"),
        )
    }

    /// Integers for the input `name`.
    pub fn integers<'a>(&self, name: &'a str, shape: &[usize], data: &'a [i64]) -> Result<Fed<'a>> {
        match self.input(name)?.0 {
            TensorElementType::Int64 => Ok((name.into(), view(name, shape, data)?)),
            other => Err(self.misfit(
                format!("input `{name}`"),
                "i64".into(),
                format!("{other:?}"),
            )),
        }
    }

    /// Runs the graph; its outputs in the order of `wanted`.
    pub fn run(&mut self, inputs: Vec<Fed<'_>>, wanted: &[&str]) -> Result<Vec<DynValue>> {
        let mut outputs = self
            .session
            .run(inputs)
            .map_err(|e| failed(&self.name, e))?;
        let values = wanted.iter().map(|name| outputs.remove(name));
        let values: Option<Vec<DynValue>> = values.collect();
        values.ok_or_else(|| Error::OnnxRuntime {
            what: self.name.clone(),
            problem: format!("it did not give all of {}", wanted.join(", ")),
        })
    }

    /// The floats of an output.
    pub fn read(&self, output: &DynValue) -> Result<Floats> {
        let shape = |shape: &ort::value::Shape| shape.iter().map(|d| *d as usize).collect();
        if let Ok((dims, data)) = output.try_extract_tensor::<f32>() {
            return Ok((shape(dims), data.to_vec()));
        }
        let (dims, data) = output
            .try_extract_tensor::<f16>()
            .map_err(|e| failed(&self.name, e))?;
        Ok((shape(dims), data.iter().map(|v| v.to_f32()).collect()))
    }
}

fn view<'a, T>(name: &str, shape: &[usize], data: &'a [T]) -> Result<SessionInputValue<'a>>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    let tensor = TensorRef::from_array_view((shape.to_vec(), data));
    Ok(tensor.map_err(|e| failed(name, e))?.into())
}

fn owned<T>(name: &str, shape: &[usize], data: Vec<T>) -> Result<DynValue>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    let tensor = Tensor::from_array((shape.to_vec(), data));
    Ok(tensor.map_err(|e| failed(name, e))?.into_dyn())
}
