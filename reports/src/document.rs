//! What a report says, section by section, before it becomes Markdown or a page: the tables, the pictures, and
//! everything a reader needs to trust or doubt them.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    breakdown,
    claims::{self, Claim},
    energy::Consumer,
    error::{Result, io},
    frame, fronts, gate,
    hardware::{self, Hardware},
    record::{Noise, Run},
    report::{AccuracySource, Picture, Report, Subject},
    stats::certified_count,
    summary::{CaseSummary, Figure},
    table::{self, Table},
};

/// A part of a report under one heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// Name for links and files, unique in the report.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What stands under it.
    pub blocks: Vec<Block>,
}

/// A piece of a section. Text may hold `code`, **strong** and <https://addresses> as in Markdown.
#[derive(Debug, Clone)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Items.
    List(Vec<String>),
    /// A table.
    Table(Table),
    /// A picture that lies beside the report.
    Picture(Picture),
}

/// Sections under construction.
struct Pages {
    sections: Vec<Section>,
}

impl Pages {
    fn heading(&mut self, title: &str) {
        self.sections.push(Section::new(title, Vec::new()));
    }

    fn push(&mut self, block: Block) {
        if let Some(section) = self.sections.last_mut() {
            section.blocks.push(block);
        }
    }

    fn paragraph(&mut self, text: &str) {
        self.push(Block::Text(text.to_owned()));
    }

    fn list(&mut self, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().collect();
        if !items.is_empty() {
            self.push(Block::List(items));
        }
    }

    fn pictures(&mut self, pictures: &[Picture], subject: Subject) {
        let of_subject = pictures.iter().filter(|picture| picture.subject == subject);
        for picture in of_subject {
            self.push(Block::Picture(picture.clone()));
        }
    }

    /// A heading and a table, unless the table is empty; whether it is not.
    fn section(&mut self, title: &str, table: Table) -> bool {
        if table.is_empty() {
            return false;
        }
        self.heading(title);
        self.push(Block::Table(table));
        true
    }
}

impl Section {
    /// A section that is named by its heading.
    pub fn new(title: &str, blocks: Vec<Block>) -> Self {
        let words = title.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<String> = (words.filter(|word| !word.is_empty()))
            .map(str::to_ascii_lowercase)
            .collect();
        Self {
            id: words.join("-"),
            title: title.to_owned(),
            blocks,
        }
    }

    /// Its tables with their names for files: the section's, and a number from the second on.
    pub fn tables(&self) -> impl Iterator<Item = (String, &Table)> {
        let tables = self.blocks.iter().filter_map(|block| match block {
            Block::Table(table) => Some(table),
            _ => None,
        });
        tables.enumerate().map(|(index, table)| match index {
            0 => (self.id.clone(), table),
            n => (format!("{}-{}", self.id, n + 1), table),
        })
    }
}

/// Writes every table of a report as LaTeX, CSV and Parquet into a folder.
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Frame`].
pub fn write_tables(sections: &[Section], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    for section in sections {
        for (name, table) in section.tables() {
            let path = folder.join(format!("{name}.tex"));
            let text = table.to_latex(&section.title, &name);
            fs::write(&path, text).map_err(io("write", &path))?;
            frame::write(table.frame()?, folder, &name)?;
        }
    }
    Ok(())
}

/// The sections of a report; those without anything to say are left out.
pub fn sections(report: &Report, pictures: &[Picture]) -> Vec<Section> {
    let mut page = Pages {
        sections: Vec::new(),
    };
    if pictures
        .iter()
        .any(|picture| picture.subject == Subject::Front)
    {
        page.heading("Accuracy against time to first token");
        page.pictures(pictures, Subject::Front);
    }
    claimed(&mut page, report);
    latency(&mut page, report);
    quality(&mut page, report);
    fronts(&mut page, report);
    stages(&mut page, report, pictures);
    side_by_side(&mut page, report, pictures);
    page.section("Cases without a result", table::failures(report));
    tails(&mut page, report);
    disturbance(&mut page, report);
    provenance(&mut page, report);
    method(&mut page, report);
    for (index, run) in report.runs.iter().enumerate() {
        machine(&mut page, report, index, run);
    }
    page.sections
}

fn claimed(page: &mut Pages, report: &Report) {
    if !page.section("Claims", claims::claims(report)) {
        return;
    }
    let all = report.runs.iter().flat_map(Claim::of);
    page.list(all.map(|c| format!("**{}**: {} ({}).", c.claim, c.about, c.source)));
    page.paragraph(
        "Both sides of a claim were measured alternately: *measured* is the median of the ratios of \
         repetitions with the same index, *range* its 95 % interval, or all of them below six. \
         *By FLOPs* is the ratio of the work, a multiply-add as 2, the whole square of attention scores \
         included. A ratio over that is a **rate**: how many times as many FLOP/s the second model \
         gets out of the device as the first. Where the published rate and the one measured differ, the \
         devices do: stage by stage below.",
    );
    page.push(Block::Table(claims::stages(report)));
}

fn fronts(page: &mut Pages, report: &Report) {
    // The first source makes the main picture.
    let Some(source) = report.accuracy_sources().into_iter().next() else {
        return;
    };
    if !page.section("How sure the front is", fronts::membership(report, source)) {
        return;
    }
    page.paragraph(&format!(
        "Of {} draws of the suites' samples (the same for all points) and of each case's launches, the share in which no \
         other point is both faster and better: 50 % is a point that could as well not be there.",
        fronts::DRAWS
    ));
}

fn latency(page: &mut Pages, report: &Report) {
    if !page.section("Time to first token", table::latency(report)) {
        return;
    }
    page.paragraph(
        "Times are medians, measured here. TTFT is `ttft.paper` = encode + prefill; TTFT user is measured \
         as one interval from the encoded image to the first token, so the two are not to be compared. \
         Tokens are visual tokens. Accuracies are in per cent. GFLOP counts the \
         stages up to the first token, a multiply-add as 2. An accuracy that is marked *published* \
         was not measured: it is quoted for the same encoder and resolution.",
    );
    let energies = report.summaries.iter().map(|summary| &summary.energy);
    if !Consumer::known(energies).is_empty() {
        page.paragraph(
            "**J/request** is energy over the timed repetitions by their number, everything between image bytes and last \
             token included: of the CPU's packages with their memory, where it is counted, or of the GPU that the case ran \
             on, beside which *host* is the packages. A counter counts the whole device, whoever's work it was. – where no \
             counter could be read or the repetitions were too short for it; the ledger says which.",
        );
    }
    let seeded = |s: &&CaseSummary| s.facts.as_ref().is_some_and(|f| f.weights.is_seeded());
    let count = report.summaries.iter().filter(seeded).count();
    if count > 0 {
        page.paragraph(&format!(
            "{count} of {} cases ran with **seeded weights**: right shapes, random values. Their times \
             are real, their answers mean nothing, so no accuracy is reported for them.",
            report.summaries.len(),
        ));
    }
}

fn quality(page: &mut Pages, report: &Report) {
    if page.section("Accuracy, measured here", table::quality(report)) {
        page.paragraph(
            "Score = exact sum of the samples' scores / n. Failed samples stay in n with score 0; \
             unparsed and truncated answers are scored as the profile says. Intervals are at \
             95%, Wilson's for right-or-wrong scores and normal ones for graded scores; both take \
             samples as independent.",
        );
    }
}

/// Where the time goes, and how far each stage is from the machine's limits.
fn stages(page: &mut Pages, report: &Report, pictures: &[Picture]) {
    if !page.section("Stages", breakdown::table(report)) {
        return;
    }
    page.pictures(pictures, Subject::Stages);
    page.paragraph(
        "Medians of each stage; **decode** is the first decode step, which makes the second token. They need not add up \
         to TTFT, which is measured as one interval. GFLOP and MB are counted, not measured; MB are the inputs, outputs and \
         weights of every operation, as if nothing stayed in a cache, so a stage may lie above its roof. **Of peak** is the \
         share of the machine's measured arithmetic peak in this precision; **of roof** is that of the lower of this peak and \
         what the measured memory bandwidth allows at the stage's FLOPs per byte, and **bound by** says which of the two it is.",
    );
    if report.runs.iter().all(|run| run.peaks.is_empty()) {
        page.paragraph("The machine's peak was not measured, so there are no shares of it: `vlmbench peak RUN` adds it.");
    }
}

/// Machines, engines and thread counts, where there are several.
fn side_by_side(page: &mut Pages, report: &Report, pictures: &[Picture]) {
    let Some(hardware) = Hardware::of(report) else {
        return;
    };
    for (index, section) in hardware.sections().into_iter().enumerate() {
        page.section(section.title, section.table);
        if index == 0 {
            page.pictures(pictures, Subject::Hardware);
        }
        page.paragraph(section.about);
    }
    page.list(hardware.notes());
}

/// What may have disturbed the launches, summed up by run.
fn disturbance(page: &mut Pages, report: &Report) {
    let flags = report.runs.iter().enumerate().flat_map(|(index, run)| {
        let noises: Vec<Noise> = run.launches.iter().map(|l| l.noise.clone()).collect();
        let flags = gate::flags(&noises, true).into_iter();
        flags.map(move |flag| format!("run {}: {flag}", index + 1))
    });
    let flags: Vec<String> = flags.collect();
    if !flags.is_empty() {
        page.heading("Signs of disturbance");
        page.list(flags);
    }
}

/// Certified percentiles, where there are enough repetitions for any.
fn tails(page: &mut Pages, report: &Report) {
    let lines: Vec<String> = (report.timed())
        .filter_map(|summary| {
            let ttft = summary.figure(Figure::TtftPaper)?;
            let percentiles = [("p90", ttft.p90), ("p95", ttft.p95), ("p99", ttft.p99)];
            let known: Vec<String> = (percentiles.into_iter())
                .filter_map(|(name, value)| {
                    Some(format!("{name} {} ms", table::milliseconds(value?)))
                })
                .collect();
            let name = table::case_name(report, summary);
            (!known.is_empty()).then(|| format!("{name}: {}", known.join(", ")))
        })
        .collect();
    if !lines.is_empty() {
        page.heading("Certified percentiles of TTFT");
        page.list(lines);
    }
}

fn provenance(page: &mut Pages, report: &Report) {
    for source in report.accuracy_sources() {
        let AccuracySource::Published(series) = source else {
            continue;
        };
        let mut lines = Vec::new();
        let mut missing = Vec::new();
        for summary in report.timed() {
            let name = table::case_name(report, summary);
            let Some(found) = report.published_accuracy(summary, series) else {
                missing.push(name);
                continue;
            };
            let point = found.point;
            let decoder = point.decoder.as_deref().unwrap_or("a decoder not stated");
            let other = if found.same_decoder {
                ""
            } else {
                ", not the decoder timed here"
            };
            let mut line = format!(
                "{name}: {} for {} at {} px with {decoder}{other}; {}",
                found.value,
                point.encoder,
                point.resolution.map_or("?".to_owned(), |r| r.to_string()),
                point.source,
            );
            if let Some(variant) = &point.variant {
                line.push_str(&format!("; {variant}"));
            }
            if let Some(note) = &point.note {
                line.push_str(&format!(". {note}"));
            }
            lines.push(line);
        }
        if lines.is_empty() && missing.is_empty() {
            continue;
        }
        page.heading(&format!("Published values: {}", series.title));
        if let Some(publication) = &series.publication {
            page.paragraph(&format!("{}, <{}>.", publication.title, publication.url));
        }
        let definition = [&series.metric, &series.metric_definition].map(Option::as_deref);
        if let [Some(metric), Some(definition)] = definition {
            page.paragraph(&format!("{metric} is the {definition}."));
        }
        page.paragraph(&format!("Set-up: {}.", series.setup));
        if let Some(note) = &series.note {
            page.paragraph(note);
        }
        page.list(lines);
        if !missing.is_empty() {
            page.paragraph("Nothing published in this series, so listed without accuracy:");
            page.list(missing);
        }
    }
}

fn method(page: &mut Pages, report: &Report) {
    page.heading("How it was measured");
    let warm_up = report
        .runs
        .iter()
        .flat_map(|run| &run.latency)
        .filter(|s| s.warm_up)
        .count();
    let used: BTreeSet<String> = (report.summaries.iter())
        .filter_map(|summary| {
            let facts = summary.facts.as_ref()?;
            let used = &facts.used;
            let threads = used
                .threads
                .map_or(String::new(), |n| format!(", {n} threads"));
            let simd = if used.simd.is_empty() {
                String::new()
            } else {
                format!(", {}", used.simd.join(" "))
            };
            Some(format!(
                "`{}` on {}, {}{threads}{simd}",
                facts.labels.backend, used.device, used.dtype,
            ))
        })
        .collect();
    page.list(used.into_iter().map(|used| format!("Really used: {used}.")));
    page.list([
        format!("Warm-up repetitions are recorded and left out of every figure ({warm_up} here)."),
        "Intervals of medians are order statistics at 95% or a little more, of any distribution; \
         below 6 repetitions there is none."
            .to_owned(),
        format!(
            "Percentiles are given from the count on at which they can be certified with 99% \
             confidence: p90 from {}, p95 from {}, p99 from {} repetitions.",
            certified_count(0.90),
            certified_count(0.95),
            certified_count(0.99),
        ),
        "A stage that the backend cannot separate is shown as –, never as zero.".to_owned(),
    ]);
}

fn machine(page: &mut Pages, report: &Report, index: usize, run: &Run) {
    let manifest = &run.manifest;
    let title = if report.runs.len() > 1 {
        format!("Run {}", index + 1)
    } else {
        "Run and machine".to_owned()
    };
    page.heading(&title);
    let tool = &manifest.tool;
    let revision = tool.revision.as_deref().unwrap_or("unknown revision");
    let mut items = vec![
        format!(
            "{} {} ({revision}), started {}",
            tool.name, tool.version, manifest.started_at
        ),
        format!("experiment `{}`", manifest.experiment_digest),
    ];
    let facts = hardware::facts(&manifest.machine).into_iter();
    items.extend(facts.filter_map(|(name, value)| Some(format!("{name}: {}", value?))));
    if run.torn {
        items.push("the last record was torn and left out; resume the run to repeat it".to_owned());
    }
    page.list(items);
    let digests = manifest
        .digests
        .iter()
        .map(|(file, digest)| format!("`{file}`: `{digest}`"));
    page.list(digests);
    page.list(manifest.notes.iter().cloned());
}
