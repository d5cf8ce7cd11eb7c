//! Records and summaries as data frames, and frames as Parquet and CSV.

use std::{fs, path::Path};

use polars::{
    frame::DataFrame,
    prelude::{AnyValue, Column, ParquetWriter},
};

use crate::{
    energy::{Consumer, RequestEnergy},
    error::{Result, io},
    record::{Answer, Extraction, FinishReason, LatencySample, Run, SampleOutcome, SampleRecord},
    report::Report,
    stats::Estimate,
    summary::{CaseSummary, Figure},
};

/// One row per repetition, warm-up included: run, ids and every [`Figure`] in milliseconds, also by the clock of the
/// device where some has one.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn repetitions(report: &Report) -> Result<DataFrame> {
    let rows: Vec<(&Run, &LatencySample)> = (report.runs.iter())
        .flat_map(|run| run.latency.iter().map(move |row| (run, row)))
        .collect();
    let mut columns = Columns::over(&rows);
    columns.text("run", |(run, _)| Some(run.folder.display().to_string()));
    columns.text("case", |(_, row)| Some(row.case.clone()));
    columns.whole("launch", |(_, row)| Some(row.launch.into()));
    columns.whole("iteration", |(_, row)| Some(row.iteration.into()));
    columns.flag("warm_up", |(_, row)| row.warm_up);
    for figure in Figure::ALL {
        columns.number(&format!("{}_ms", figure.name()), |(_, row)| figure.of(row));
    }
    for figure in Figure::ALL {
        if rows.iter().any(|(_, row)| figure.on_device(row).is_some()) {
            let name = format!("{}_device_ms", figure.name());
            columns.number(&name, |(_, row)| figure.on_device(row));
        }
    }
    columns.finish()
}

/// What a sample was answered, unless it failed.
fn answer(row: &SampleRecord) -> Option<&Answer> {
    match &row.outcome {
        SampleOutcome::Ok(answer) => Some(answer),
        SampleOutcome::Failed { .. } => None,
    }
}

/// One row per sample: run, ids, what came of it, its points of 100, tokens, and times of stages in milliseconds.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn samples(report: &Report) -> Result<DataFrame> {
    let rows: Vec<(&Run, &SampleRecord)> = (report.runs.iter())
        .flat_map(|run| run.samples.iter().map(move |row| (run, row)))
        .collect();
    let mut columns = Columns::over(&rows);
    columns.text("run", |(run, _)| Some(run.folder.display().to_string()));
    columns.text("case", |(_, row)| Some(row.case.clone()));
    columns.text("sample", |(_, row)| Some(row.sample.clone()));
    columns.text("images", |(_, row)| row.images.clone());
    columns.text("error", |(_, row)| match &row.outcome {
        SampleOutcome::Ok(_) => None,
        SampleOutcome::Failed { stage, error } => Some(format!("{stage}: {error}")),
    });
    columns.number("points", |(_, row)| Some(row.outcome.points()));
    columns.text("response", |(_, row)| Some(answer(row)?.response.clone()));
    columns.text("extracted", |(_, row)| match &answer(row)?.extraction {
        Extraction::Parsed { answer } => Some(answer.clone()),
        Extraction::Unparsed => None,
    });
    columns.flag("truncated", |(_, row)| {
        answer(row).is_some_and(|answer| answer.finish_reason == FinishReason::Length)
    });
    columns.whole("visual_tokens", |(_, row)| {
        Some(answer(row)?.tokens.visual.into())
    });
    columns.whole("prompt_tokens", |(_, row)| {
        Some(answer(row)?.tokens.prompt.into())
    });
    columns.whole("output_tokens", |(_, row)| {
        Some(answer(row)?.tokens.output.into())
    });
    let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
    columns.number("encode_ms", |(_, row)| ms(answer(row)?.stages.encode_ns));
    columns.number("project_ms", |(_, row)| ms(answer(row)?.stages.project_ns));
    columns.number("prefill_ms", |(_, row)| ms(answer(row)?.stages.prefill_ns));
    columns.finish()
}

/// One row per case: labels, costs, latency figures with their intervals, memory, measured accuracy,
/// and for each published series its value and source.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn summary(report: &Report) -> Result<DataFrame> {
    let mut columns = Columns::over(&report.summaries);
    columns.text("run", |r| {
        Some(report.runs[r.run].folder.display().to_string())
    });
    columns.text("case", |r| Some(r.case.clone()));
    columns.text("outcome", |r| Some(crate::table::outcome(r)));
    columns.text("model", |r| Some(r.facts.as_ref()?.labels.model.clone()));
    columns.text("encoder", |r| {
        Some(r.facts.as_ref()?.labels.encoder.clone())
    });
    columns.text("decoder", |r| r.facts.as_ref()?.labels.decoder.clone());
    columns.text("suite", |r| r.facts.as_ref()?.labels.suite.clone());
    columns.text("profile", |r| r.facts.as_ref()?.labels.profile.clone());
    columns.text("backend", |r| {
        Some(r.facts.as_ref()?.labels.backend.clone())
    });
    columns.text("device", |r| Some(r.facts.as_ref()?.used.device.clone()));
    columns.text("dtype", |r| Some(r.facts.as_ref()?.used.dtype.clone()));
    columns.text("weights", |r| {
        let seeded = r.facts.as_ref()?.weights.is_seeded();
        Some(if seeded { "seeded" } else { "checkpoint" }.to_owned())
    });
    columns.whole("threads", |r| r.facts.as_ref()?.used.threads.map(u64::from));
    columns.whole("resolution", |r| {
        let labels = &r.facts.as_ref()?.labels;
        (!labels.blind).then(|| labels.resolution.into())
    });
    columns.whole("visual_tokens", |r| {
        r.facts.as_ref()?.visual_tokens.map(u64::from)
    });
    columns.whole("prompt_tokens", |r| {
        r.facts.as_ref()?.prompt_tokens.map(u64::from)
    });
    columns.whole("flops_to_first_token", CaseSummary::flops_to_first_token);
    columns.whole("peak_rss_bytes", CaseSummary::peak_rss_bytes);
    columns.whole("peak_device_bytes", CaseSummary::peak_device_bytes);
    columns.whole("repetitions", |r| Some(r.latency.values().next()?.n as u64));
    columns.figures(CaseSummary::figure);
    columns.energies(|r| &r.energy);
    for (name, pick) in [("p90", 0_usize), ("p95", 1), ("p99", 2)] {
        columns.number(&format!("ttft.paper_{name}_ms"), |r| {
            let estimate = r.figure(Figure::TtftPaper)?;
            [estimate.p90, estimate.p95, estimate.p99][pick]
        });
    }
    columns.number("accuracy", |r| Some(r.accuracy.as_ref()?.mean()));
    columns.number("accuracy_low", |r| {
        Some(r.accuracy.as_ref()?.interval()?.low)
    });
    columns.number("accuracy_high", |r| {
        Some(r.accuracy.as_ref()?.interval()?.high)
    });
    columns.text("score_sum", |r| {
        let (numerator, denominator) = r.accuracy.as_ref()?.sum.fraction()?;
        Some(format!("{numerator}/{denominator}"))
    });
    columns.whole("samples", |r| Some(r.accuracy.as_ref()?.n as u64));
    columns.whole("failed", |r| Some(r.accuracy.as_ref()?.failed as u64));
    columns.whole("unparsed", |r| Some(r.accuracy.as_ref()?.unparsed as u64));
    columns.whole("truncated", |r| Some(r.accuracy.as_ref()?.truncated as u64));
    for series in report
        .series
        .iter()
        .filter(|series| series.metric.is_some())
    {
        let found = |r: &CaseSummary| report.published_accuracy(r, series);
        let id = &series.id;
        columns.number(&format!("published {id}"), |r| Some(found(r)?.value));
        columns.text(&format!("published {id} source"), |r| {
            Some(found(r)?.point.source.to_string())
        });
        columns.text(&format!("published {id} decoder"), |r| {
            found(r)?.point.decoder.clone()
        });
    }
    columns.finish()
}

/// Builds columns over the same rows.
pub(crate) struct Columns<'a, R> {
    rows: &'a [R],
    columns: Vec<Column>,
}

impl<'a, R> Columns<'a, R> {
    /// No columns yet.
    pub fn over(rows: &'a [R]) -> Self {
        let columns = Vec::new();
        Self { rows, columns }
    }

    /// The frame.
    pub fn finish(self) -> Result<DataFrame> {
        Ok(DataFrame::new(self.rows.len(), self.columns)?)
    }

    /// Median and interval of every latency figure, milliseconds.
    pub fn figures(&mut self, of: impl Fn(&R, Figure) -> Option<&Estimate>) {
        for figure in Figure::ALL {
            let name = figure.name();
            self.number(&format!("{name}_median_ms"), |r| {
                Some(of(r, figure)?.median)
            });
            self.number(&format!("{name}_low_ms"), |r| {
                Some(of(r, figure)?.interval?.low)
            });
            self.number(&format!("{name}_high_ms"), |r| {
                Some(of(r, figure)?.interval?.high)
            });
        }
    }

    /// Median and interval of the energy of a request, joules, where any row has one.
    pub fn energies(&mut self, of: impl Fn(&R) -> &RequestEnergy) {
        for consumer in Consumer::known(self.rows.iter().map(&of)) {
            let name = consumer.name();
            self.number(&format!("{name}_median_j"), |r| {
                Some(of(r).figure(consumer)?.median)
            });
            self.number(&format!("{name}_low_j"), |r| {
                Some(of(r).figure(consumer)?.interval?.low)
            });
            self.number(&format!("{name}_high_j"), |r| {
                Some(of(r).figure(consumer)?.interval?.high)
            });
        }
    }

    /// Text.
    pub fn text(&mut self, name: &str, value: impl Fn(&R) -> Option<String>) {
        let values: Vec<Option<String>> = self.rows.iter().map(value).collect();
        self.columns.push(Column::new(name.into(), values));
    }

    /// Whole numbers.
    pub fn whole(&mut self, name: &str, value: impl Fn(&R) -> Option<u64>) {
        let values: Vec<Option<u64>> = self.rows.iter().map(value).collect();
        self.columns.push(Column::new(name.into(), values));
    }

    /// What holds or does not.
    pub fn flag(&mut self, name: &str, value: impl Fn(&R) -> bool) {
        let values: Vec<bool> = self.rows.iter().map(value).collect();
        self.columns.push(Column::new(name.into(), values));
    }

    /// Numbers.
    pub fn number(&mut self, name: &str, value: impl Fn(&R) -> Option<f64>) {
        let values: Vec<Option<f64>> = self.rows.iter().map(value).collect();
        self.columns.push(Column::new(name.into(), values));
    }
}

/// Writes a frame as Parquet.
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Frame`].
pub fn write_parquet(frame: &mut DataFrame, path: &Path) -> Result<()> {
    let file = fs::File::create(path).map_err(io("create", path))?;
    ParquetWriter::new(file).finish(frame)?;
    Ok(())
}

/// Writes a frame as `NAME.csv` and `NAME.parquet` into a folder.
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Frame`].
pub fn write(mut frame: DataFrame, folder: &Path, name: &str) -> Result<()> {
    write_csv(&frame, &folder.join(format!("{name}.csv")))?;
    write_parquet(&mut frame, &folder.join(format!("{name}.parquet")))
}

/// A frame as the bytes of a Parquet file.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn parquet(frame: &mut DataFrame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(frame)?;
    Ok(bytes)
}

/// Writes a frame as [`csv`].
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Frame`].
pub fn write_csv(frame: &DataFrame, path: &Path) -> Result<()> {
    fs::write(path, csv(frame)?).map_err(io("write", path))
}

/// A frame as CSV (RFC 4180, line feeds). A null is an empty field.
///
/// polars' own writer would bring in its CSV reader too, for these few lines.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn csv(frame: &DataFrame) -> Result<String> {
    let mut text = String::new();
    let names: Vec<String> = (frame.columns().iter())
        .map(|c| csv_field(c.name()))
        .collect();
    text.push_str(&names.join(","));
    text.push('\n');
    for row in 0..frame.height() {
        for (index, column) in frame.columns().iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match column.get(row)? {
                AnyValue::Null => {}
                AnyValue::String(value) => text.push_str(&csv_field(value)),
                AnyValue::StringOwned(value) => text.push_str(&csv_field(&value)),
                // The shortest decimal that reads back as the same number.
                AnyValue::Float64(value) => text.push_str(&value.to_string()),
                value => text.push_str(&csv_field(&value.to_string())),
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn csv_field(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}
