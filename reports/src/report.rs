//! A report over run folders: everything read and joined once, then written in every format.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    breakdown,
    document::{self, Section},
    error::{Error, Result, io},
    frame, gallery,
    hardware::Hardware,
    markdown, page,
    plot::{Draw, ParetoPlot},
    published::{Match, Series, Wanted},
    record::{Labels, Run},
    stats::{Interval, mean_of_means},
    summary::{CaseSummary, Figure, summarise},
};

/// Runs, their figures, and the published series that they are compared with.
#[derive(Debug, Clone)]
pub struct Report {
    /// The runs, in the order given.
    pub runs: Vec<Run>,
    /// One summary per case, run by run.
    pub summaries: Vec<CaseSummary>,
    /// Published series copied into the runs, each once, in order.
    pub series: Vec<Series>,
}

/// Files that a report consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFiles {
    /// The report as one page that needs no other file.
    pub page: PathBuf,
    /// The report in Markdown.
    pub markdown: PathBuf,
    /// Pictures, the most relevant first; as SVG and as PNG.
    pub pictures: Vec<Picture>,
    /// Samples with their answers, if a run has exhibits.
    pub gallery: Option<PathBuf>,
    /// Folder with every table as LaTeX, CSV and Parquet.
    pub tables: PathBuf,
    /// The summary table as CSV.
    pub csv: PathBuf,
    /// The summary table as Parquet.
    pub parquet: PathBuf,
}

/// One picture in two formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// Where it belongs.
    pub subject: Subject,
    /// As SVG.
    pub svg: PathBuf,
    /// As PNG.
    pub png: PathBuf,
}

/// What a picture is about: the section that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Accuracy against time to first token.
    Front,
    /// Stages and their limits.
    Stages,
    /// Machines, engines and thread counts beside each other.
    Hardware,
}

/// Where the accuracy of an axis or a column comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AccuracySource<'a> {
    /// Copied from a publication.
    Published(&'a Series),
    /// Mean of the scores of all suites that were measured, each with the same weight.
    Mean,
    /// Measured in the runs.
    Measured {
        /// Suite id.
        suite: &'a str,
        /// Prompt and scoring profile.
        profile: &'a str,
    },
}

impl Report {
    /// Reads run folders.
    ///
    /// # Errors
    /// [`Error::NoRuns`], and those of [`Run::read`].
    pub fn read<P: AsRef<Path>>(run_dirs: &[P]) -> Result<Self> {
        if run_dirs.is_empty() {
            return Err(Error::NoRuns);
        }
        let runs: Result<Vec<Run>> = run_dirs.iter().map(|dir| Run::read(dir.as_ref())).collect();
        Ok(Self::new(runs?))
    }

    /// Derives everything from runs that are already read.
    pub fn new(runs: Vec<Run>) -> Self {
        let summaries = (runs.iter().enumerate())
            .flat_map(|(index, run)| summarise(index, run))
            .collect();
        let mut series: Vec<Series> = Vec::new();
        for candidate in runs.iter().flat_map(|run| &run.published) {
            if series.iter().all(|known| known.id != candidate.id) {
                series.push(candidate.clone());
            }
        }
        Self {
            runs,
            summaries,
            series,
        }
    }

    /// Cases with a time to first token, which is what an accuracy is set against.
    pub fn timed(&self) -> impl Iterator<Item = &CaseSummary> {
        (self.summaries.iter()).filter(|summary| summary.figure(Figure::TtftPaper).is_some())
    }

    /// Cases with a measured accuracy.
    pub fn scored(&self) -> impl Iterator<Item = &CaseSummary> {
        (self.summaries.iter()).filter(|summary| summary.accuracy.is_some())
    }

    /// Suites that were measured with the profiles that scored them, each pair once.
    pub fn suites(&self) -> Vec<(&str, &str)> {
        let mut suites = Vec::new();
        for summary in self.scored() {
            let labels = summary.facts.as_ref().map(|facts| &facts.labels);
            if let Some(suite) = labels.and_then(suite_and_profile)
                && !suites.contains(&suite)
            {
                suites.push(suite);
            }
        }
        suites
    }

    /// Sources of accuracy, measured ones first, led by their mean if there are several suites, each
    /// under one profile.
    pub fn accuracy_sources(&self) -> Vec<AccuracySource<'_>> {
        let suites = self.suites();
        // A suite under two profiles would count twice.
        let distinct: BTreeSet<&str> = suites.iter().map(|(suite, _)| *suite).collect();
        let mean = suites.len() > 1 && distinct.len() == suites.len();
        let measured = suites.into_iter();
        let measured = measured.map(|(suite, profile)| AccuracySource::Measured { suite, profile });
        let with_metric = self.series.iter().filter(|series| series.metric.is_some());
        (mean.then_some(AccuracySource::Mean).into_iter())
            .chain(measured)
            .chain(with_metric.map(AccuracySource::Published))
            .collect()
    }

    /// The measured accuracy of the same model under the same conditions as `timed`.
    pub fn measured_accuracy(
        &self,
        timed: &CaseSummary,
        suite: &str,
        profile: &str,
    ) -> Option<&CaseSummary> {
        let wanted = &timed.facts.as_ref()?.labels;
        self.scored().find(|scored| {
            let labels = scored.facts.as_ref().map(|facts| &facts.labels);
            labels.is_some_and(|labels| {
                suite_and_profile(labels) == Some((suite, profile))
                    && same_conditions(labels, wanted)
            })
        })
    }

    /// A measured accuracy in 0..=1 with its interval: of one suite, or of all of them.
    pub fn measured(
        &self,
        timed: &CaseSummary,
        source: AccuracySource<'_>,
    ) -> Option<(f64, Option<Interval>)> {
        let of = |suite: &str, profile: &str| {
            let scored = self.measured_accuracy(timed, suite, profile)?;
            scored.accuracy.as_ref()
        };
        match source {
            AccuracySource::Published(_) => None,
            AccuracySource::Measured { suite, profile } => {
                let accuracy = of(suite, profile)?;
                Some((accuracy.mean(), accuracy.interval()))
            }
            AccuracySource::Mean => {
                let suites = self.suites().into_iter();
                let all: Option<Vec<(f64, Interval)>> = suites
                    .map(|(suite, profile)| {
                        let accuracy = of(suite, profile)?;
                        Some((accuracy.mean(), accuracy.interval()?))
                    })
                    .collect();
                let (mean, interval) = mean_of_means(&all?)?;
                Some((mean, Some(interval)))
            }
        }
    }

    /// An accuracy in per cent with its interval if it was measured, or with its row if it was published.
    pub fn percent<'a>(
        &self,
        summary: &CaseSummary,
        source: AccuracySource<'a>,
    ) -> Option<(f64, Option<Interval>, Option<Match<'a>>)> {
        match source {
            AccuracySource::Published(series) => {
                let found = self.published_accuracy(summary, series)?;
                Some((found.value, None, Some(found)))
            }
            AccuracySource::Measured { .. } | AccuracySource::Mean => {
                let (mean, interval) = self.measured(summary, source)?;
                let percent = |interval: Interval| interval.map(|share| 100.0 * share);
                Some((100.0 * mean, interval.map(percent), None))
            }
        }
    }

    /// What the same model scored under the same conditions with the images withheld, in 0..=1.
    pub fn blind(&self, timed: &CaseSummary, source: AccuracySource<'_>) -> Option<f64> {
        let labels = &timed.facts.as_ref()?.labels;
        let case = self.scored().find(|scored| {
            let other = scored.facts.as_ref().map(|facts| &facts.labels);
            other.is_some_and(|other| other.blind && same_but_for_sight(other, labels))
        })?;
        self.measured(case, source).map(|(mean, _)| mean)
    }

    /// The published accuracy for the case's encoder and resolution, from one series.
    pub fn published_accuracy<'a>(
        &self,
        summary: &CaseSummary,
        series: &'a Series,
    ) -> Option<Match<'a>> {
        series.accuracy(Wanted::of(summary.facts.as_ref()?))
    }
}

fn suite_and_profile(labels: &Labels) -> Option<(&str, &str)> {
    Some((labels.suite.as_deref()?, labels.profile.as_deref()?))
}

/// Whether two cases differ in nothing but what the model sees and is asked.
fn same_but_for_sight(a: &Labels, b: &Labels) -> bool {
    let unseen = |labels: &Labels| Labels {
        resolution: 0,
        blind: false,
        ..labels.clone()
    };
    same_conditions(&unseen(a), &unseen(b))
}

/// Whether two cases compute the same thing in the same way, whatever they are asked.
fn same_conditions(a: &Labels, b: &Labels) -> bool {
    let key = |labels: &Labels| {
        let Labels {
            model,
            encoder,
            decoder,
            suite: _,
            profile: _,
            backend,
            device,
            precision,
            resolution,
            blind,
        } = labels.clone();
        (
            model, encoder, decoder, backend, device, precision, resolution, blind,
        )
    };
    key(a) == key(b)
}

/// Reads run folders and writes the report: see [`Report::write`].
///
/// # Errors
/// Those of [`Report::read`]; the system's refusal to write; [`Error::Plot`].
pub fn report<P: AsRef<Path>>(run_dirs: &[P], out_dir: &Path) -> Result<ReportFiles> {
    Report::read(run_dirs)?.write(out_dir)
}

impl Report {
    /// Writes `report.html`, `report.md`, `gallery.md` if there are exhibits, the pictures, the summary and
    /// every table into a folder, over an earlier report.
    ///
    /// # Errors
    /// The system's refusal to write; [`Error::Plot`].
    pub fn write(&self, out_dir: &Path) -> Result<ReportFiles> {
        self.write_with(out_dir, Vec::new())
    }

    /// The same, led by sections of another kind.
    ///
    /// # Errors
    /// Those of [`Report::write`].
    pub fn write_with(&self, out_dir: &Path, first: Vec<Section>) -> Result<ReportFiles> {
        fs::create_dir_all(out_dir).map_err(io("create", out_dir))?;
        let hardware = Hardware::of(self);
        let pictures = self.draw(hardware.as_ref(), out_dir)?;
        let mut gallery = None;
        let suites = gallery::suites(self);
        if let Some(text) = gallery::render(&suites, out_dir) {
            let path = out_dir.join("gallery.md");
            fs::write(&path, text).map_err(io("write", &path))?;
            gallery = Some(path);
        }
        let files = ReportFiles {
            page: out_dir.join("report.html"),
            markdown: out_dir.join("report.md"),
            pictures,
            gallery,
            tables: out_dir.join("tables"),
            csv: out_dir.join("summary.csv"),
            parquet: out_dir.join("summary.parquet"),
        };
        frame::write(frame::summary(self)?, out_dir, "summary")?;
        let mut sections = first;
        sections.extend(document::sections(self, &files.pictures));
        document::write_tables(&sections, &files.tables)?;
        self.write_rows(hardware.as_ref(), &files.tables)?;
        let text = markdown::render(&sections, &files.page, files.gallery.as_deref());
        fs::write(&files.markdown, text).map_err(io("write", &files.markdown))?;
        let html = page::render(self, &sections, &suites)?;
        fs::write(&files.page, html).map_err(io("write", &files.page))?;
        Ok(files)
    }

    /// What was measured, row by row, beside the tables made of it.
    fn write_rows(&self, hardware: Option<&Hardware<'_>>, folder: &Path) -> Result<()> {
        let mut frames = vec![
            ("repetitions", frame::repetitions(self)?),
            ("samples", frame::samples(self)?),
        ];
        if let Some(hardware) = hardware {
            frames.push(("hardware", hardware.frame()?));
        }
        frames.retain(|(_, frame)| frame.height() > 0);
        for (name, frame) in frames {
            frame::write(frame, folder, name)?;
        }
        Ok(())
    }

    fn draw(&self, hardware: Option<&Hardware<'_>>, out_dir: &Path) -> Result<Vec<Picture>> {
        let mut pictures: Vec<Picture> = Vec::new();
        for source in self.accuracy_sources() {
            let plot = ParetoPlot::new(self, source);
            if plot.points.is_empty() {
                continue;
            }
            // The first picture has a fixed name, so that other pages can link to it.
            let stem = match pictures.is_empty() {
                true => "pareto".to_owned(),
                false => format!("pareto-{}", file_stem(source)),
            };
            pictures.push(drawn(&plot, &plot.y_title, Subject::Front, out_dir, &stem)?);
        }
        if let Some(plot) = breakdown::bars(self) {
            let subject = Subject::Stages;
            pictures.push(drawn(&plot, &plot.title, subject, out_dir, "stages")?);
        }
        if let Some(hardware) = hardware.filter(|hardware| !hardware.recipes.is_empty()) {
            let plot = hardware.picture();
            let subject = Subject::Hardware;
            pictures.push(drawn(&plot, &plot.title, subject, out_dir, "hardware")?);
        }
        let roofs = breakdown::rooflines(self);
        for (index, plot) in roofs.iter().enumerate() {
            let stem = match roofs.len() {
                1 => "roofline".to_owned(),
                _ => format!("roofline-{}", index + 1),
            };
            pictures.push(drawn(plot, &plot.title, Subject::Stages, out_dir, &stem)?);
        }
        Ok(pictures)
    }
}

/// Draws a picture in both formats.
fn drawn(
    plot: &impl Draw,
    title: &str,
    subject: Subject,
    folder: &Path,
    stem: &str,
) -> Result<Picture> {
    let picture = Picture {
        title: title.to_owned(),
        subject,
        svg: folder.join(format!("{stem}.svg")),
        png: folder.join(format!("{stem}.png")),
    };
    plot.draw_svg(&picture.svg)?;
    plot.draw_png(&picture.png)?;
    Ok(picture)
}

fn file_stem(source: AccuracySource<'_>) -> String {
    let name = match source {
        AccuracySource::Published(series) => series.id.clone(),
        AccuracySource::Mean => "mean".to_owned(),
        AccuracySource::Measured { suite, profile } => format!("{suite}-{profile}"),
    };
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    name.chars().map(safe).collect()
}
