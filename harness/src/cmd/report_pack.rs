//! `report --pack`: a paper's tables beside what the runs measured, in front of the report's own.

use std::path::Path;

use serde_json::json;
use vlmbench_reports::pack;
use vlmbench_reports::report::Report;

use super::Format;
use crate::config::pack::LoadedPack;
use crate::context::Context;
use crate::error::Failure;

/// Writes what became of a pack beside the report, and prints it.
pub fn write(
    loaded: &LoadedPack,
    report: &Report,
    folder: &Path,
    format: Format,
    ctx: &Context,
) -> Result<(), Failure> {
    let findings = loaded.hold(report)?;
    let files = findings.write(folder)?;
    let page = report.write_with(folder, pack::sections(&findings))?.page;
    match format {
        Format::Text => {
            let mut text = pack::terminal(&findings, ctx.terminal.width);
            text.push_str(&format!("\npage     {}\n", page.display()));
            text.push_str(&format!("pack     {}\n", files.markdown.display()));
            ctx.print(&text)
        }
        Format::Json => ctx.print_json(&json!({
            "page": page,
            "markdown": files.markdown,
            "csv": files.csv,
            "runs": report.runs.iter().map(|run| &run.folder).collect::<Vec<_>>(),
            "findings": findings,
        })),
    }
}
