//! Files of a picture: one drawing routine, as SVG and as PNG.

use std::path::Path;

use plotters::{
    drawing::IntoDrawingArea,
    prelude::{BitMapBackend, DrawingBackend, SVGBackend},
    style::WHITE,
};

use super::canvas::{Canvas, Drawn};
use crate::error::{Error, Result};

/// The PNG is drawn this many times larger and averaged down, for smooth edges.
const SUPERSAMPLING: usize = 3;

/// What can be drawn on any backend.
pub(super) trait Picture {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws on a white canvas of that size.
    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B>;
}

/// Pictures as files.
pub trait Draw {
    /// Writes the picture as SVG.
    ///
    /// # Errors
    /// [`Error::Plot`] with the system's or the drawing library's reason.
    fn draw_svg(&self, path: &Path) -> Result<()>;

    /// Writes the picture as PNG.
    ///
    /// # Errors
    /// [`Error::Plot`] with the system's or the drawing library's reason.
    fn draw_png(&self, path: &Path) -> Result<()>;
}

impl<P: Picture> Draw for P {
    fn draw_svg(&self, path: &Path) -> Result<()> {
        let area = SVGBackend::new(path, self.size()).into_drawing_area();
        let canvas = Canvas {
            area: &area,
            scale: 1.0,
            text_drop: 0.03,
        };
        draw(self, &canvas).map_err(|error| failed(path, &error))
    }

    fn draw_png(&self, path: &Path) -> Result<()> {
        let size = self.size();
        let (width, height) = (size.0 as usize, size.1 as usize);
        let large = (size.0 * SUPERSAMPLING as u32, size.1 * SUPERSAMPLING as u32);
        let mut pixels = vec![0_u8; 3 * width * height * SUPERSAMPLING * SUPERSAMPLING];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area();
            let canvas = Canvas {
                area: &area,
                scale: SUPERSAMPLING as f64,
                text_drop: 0.15,
            };
            draw(self, &canvas).map_err(|error| failed(path, &error))?;
        }
        let small = average_down(&pixels, width, height);
        let mut file = BitMapBackend::new(path, size);
        (file.blit_bitmap((0, 0), size, &small))
            .and_then(|()| file.present())
            .map_err(|error| failed(path, &error))
    }
}

fn draw<B: DrawingBackend>(picture: &impl Picture, canvas: &Canvas<'_, B>) -> Drawn<B> {
    canvas.area.fill(&WHITE)?;
    picture.render(canvas)?;
    canvas.area.present()
}

/// Averages squares of `SUPERSAMPLING` pixels, RGB.
fn average_down(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let row = 3 * width * SUPERSAMPLING;
    let mut small = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0_usize;
                for dy in 0..SUPERSAMPLING {
                    let start = (y * SUPERSAMPLING + dy) * row + 3 * x * SUPERSAMPLING + channel;
                    let square = (0..SUPERSAMPLING).map(|dx| usize::from(pixels[start + 3 * dx]));
                    sum += square.sum::<usize>();
                }
                small.push((sum / (SUPERSAMPLING * SUPERSAMPLING)) as u8);
            }
        }
    }
    small
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Plot {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
