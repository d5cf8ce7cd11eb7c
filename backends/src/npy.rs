//! Reference tensors: NumPy's `.npy` files, in C or Fortran order.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use half::f16;
use npyz::{DType, Deserialize, NpyFile, Order, TypeChar, WriterBuilder};

use crate::error::{Error, Result};

/// An array with its shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<T>,
}

/// Reads floating-point values (f16, f32 or f64) as f32.
pub fn read_f32(path: &Path) -> Result<Array<f32>> {
    let file = open(path)?;
    match kind(&file) {
        Some((TypeChar::Float, 2)) => values(path, file, f16::to_f32),
        Some((TypeChar::Float, 4)) => values(path, file, |v: f32| v),
        Some((TypeChar::Float, 8)) => values(path, file, |v: f64| v as f32),
        _ => Err(wrong(path, "floating-point values", &file)),
    }
}

/// Reads integers of 32 or 64 bits, such as token ids.
pub fn read_i64(path: &Path) -> Result<Array<i64>> {
    let file = open(path)?;
    match kind(&file) {
        Some((TypeChar::Int, 4)) => values(path, file, |v: i32| i64::from(v)),
        Some((TypeChar::Int, 8)) => values(path, file, |v: i64| v),
        _ => Err(wrong(path, "signed integers of 32 or 64 bits", &file)),
    }
}

/// Writes f32 values.
pub fn write_f32(path: &Path, array: &Array<f32>) -> Result<()> {
    let failed = |source| Error::Io {
        path: path.into(),
        source,
    };
    let shape: Vec<u64> = array.shape.iter().map(|side| *side as u64).collect();
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let mut npy = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut out)
        .begin_nd()
        .map_err(failed)?;
    npy.extend(array.data.iter()).map_err(failed)?;
    npy.finish().map_err(failed)?;
    out.flush().map_err(failed)
}

type Npy = NpyFile<BufReader<File>>;

fn open(path: &Path) -> Result<Npy> {
    let file = File::open(path).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })?;
    NpyFile::new(BufReader::new(file)).map_err(|e| unreadable(path, &e))
}

/// Kind and bytes of a scalar; `None` for records.
fn kind(file: &Npy) -> Option<(TypeChar, u64)> {
    match file.dtype() {
        DType::Plain(t) => Some((t.type_char(), t.size_field())),
        _ => None,
    }
}

fn values<T: Deserialize, U: Copy>(
    path: &Path,
    file: Npy,
    convert: impl Fn(T) -> U,
) -> Result<Array<U>> {
    let shape: Vec<usize> = file.shape().iter().map(|side| *side as usize).collect();
    let order = file.order();
    let stored: Vec<T> = file.into_vec().map_err(|e| unreadable(path, &e))?;
    let data: Vec<U> = stored.into_iter().map(convert).collect();
    let data = match order {
        Order::C => data,
        Order::Fortran => row_major(&data, &shape),
    };
    Ok(Array { shape, data })
}

/// Reorders values in which the first index runs fastest.
fn row_major<U: Copy>(data: &[U], shape: &[usize]) -> Vec<U> {
    let mut index = vec![0; shape.len()];
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        let (mut at, mut stride) = (0, 1);
        for (i, side) in index.iter().zip(shape) {
            at += i * stride;
            stride *= side;
        }
        out.push(data[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Config {
        what: "npy file".into(),
        value: path.display().to_string(),
        problem: format!("cannot be read: {error}"),
    }
}

fn wrong(path: &Path, expected: &str, file: &Npy) -> Error {
    Error::Config {
        what: "npy file".into(),
        value: path.display().to_string(),
        problem: format!("must hold {expected}, holds {}", file.dtype().descr()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_survive_a_file_and_types_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let array = Array {
            shape: vec![2, 3],
            data: vec![1.0, -2.5, 3.0, 0.0, 1e-8, 7.0],
        };
        write_f32(&path, &array).unwrap();
        assert_eq!(read_f32(&path).unwrap(), array);
        assert!(read_i64(&path).unwrap_err().to_string().contains("<f4"));
        let missing = read_f32(&dir.path().join("y.npy")).unwrap_err();
        assert!(missing.to_string().contains("y.npy"));
    }

    #[test]
    fn fortran_order_becomes_row_major() {
        // Shape (2, 3): the file runs down the columns.
        let stored = [1, 4, 2, 5, 3, 6];
        assert_eq!(row_major(&stored, &[2, 3]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(row_major(&stored, &[1, 6]), stored);
        // Shape (2, 2, 2), value 100 i + 10 j + k.
        let cube = [0, 100, 10, 110, 1, 101, 11, 111];
        assert_eq!(
            row_major(&cube, &[2, 2, 2]),
            [0, 1, 10, 11, 100, 101, 110, 111]
        );
    }
}
