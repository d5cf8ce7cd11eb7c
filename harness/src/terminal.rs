//! Colour, width and progress, decided once.
//!
//! Data goes to standard output and is never coloured; progress and
//! diagnostics go to standard error. Progress bars appear only if that is a
//! terminal; colour follows `--color`, then `NO_COLOR`, then the terminal.

use std::io::IsTerminal;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;
use vlmbench_backends::hub::Download;

/// When to colour diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether diagnostics are coloured.
    pub color: bool,
    /// Whether progress is drawn.
    pub progress: bool,
    /// Columns for tables on standard output.
    pub width: usize,
}

/// Columns when standard output is not a terminal: files and pipes keep every
/// column of a table.
const UNBOUNDED_WIDTH: usize = 400;

impl Terminal {
    /// Looks at flags, environment and streams.
    pub fn detect(choice: ColorChoice) -> Terminal {
        let progress = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Terminal {
            color: color(choice, no_color, progress),
            progress,
            width: match terminal_size::terminal_size_of(std::io::stdout()) {
                Some((terminal_size::Width(columns), _)) => usize::from(columns.max(40)),
                None => UNBOUNDED_WIDTH,
            },
        }
    }

    /// Sets up diagnostics on standard error: `RUST_LOG` if set, otherwise
    /// warnings, and more for every `-v`.
    pub fn start_tracing(&self, verbosity: u8) {
        let default = match verbosity {
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        };
        let filter = match verbosity {
            0 => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
            _ => EnvFilter::new(default),
        };
        // Fails only if diagnostics are set up already, which is as good.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(self.color)
            .with_target(verbosity > 1)
            .without_time()
            .try_init();
    }

    /// A bar over `length` steps on standard error, invisible unless that is a
    /// terminal.
    pub fn bar(&self, length: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length), self.target());
        let template = match self.color {
            true => "{prefix:.bold} {bar:30.cyan/blue} {pos}/{len} {msg} [{elapsed}, eta {eta}]",
            false => "{prefix} {bar:30} {pos}/{len} {msg} [{elapsed}, eta {eta}]",
        };
        bar.set_style(style(template));
        bar
    }

    /// A spinner for work of unknown length, invisible unless standard error
    /// is a terminal.
    pub fn spinner(&self, message: String) -> ProgressBar {
        let spinner = ProgressBar::with_draw_target(None, self.target());
        spinner.set_style(style("{spinner} {msg} [{elapsed}]"));
        spinner.set_message(message);
        if self.progress {
            spinner.enable_steady_tick(Duration::from_millis(120));
        }
        spinner
    }

    /// Shows downloads in `bar`, for the hub's observer.
    pub fn downloads(&self, bar: &ProgressBar) -> impl FnMut(Download<'_>) + use<> {
        let bar = bar.clone();
        bar.set_style(style("{msg} {bar:30} {bytes}/{total_bytes} [{elapsed}]"));
        move |download| {
            bar.set_message(download.file.to_owned());
            bar.set_length(download.total_bytes);
            bar.set_position(download.bytes);
        }
    }

    /// Prints a failure's message to standard error. That stream failing as
    /// well leaves nobody to tell.
    pub fn print_error(&self, message: &str) {
        use std::io::Write;
        let mut stderr = std::io::stderr().lock();
        let _ = match message.strip_prefix("error:") {
            Some(rest) if self.color => writeln!(stderr, "\x1b[1;31merror:\x1b[0m{rest}"),
            _ => writeln!(stderr, "{message}"),
        };
    }

    fn target(&self) -> ProgressDrawTarget {
        match self.progress {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates of this file are well formed")
}

fn color(choice: ColorChoice, no_color: bool, terminal: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal && !no_color,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_variable_and_the_variable_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        assert!(color(Always, true, false));
        assert!(!color(Never, false, true));
        assert!(color(Auto, false, true));
        assert!(!color(Auto, true, true));
        assert!(!color(Auto, false, false));
    }

    #[test]
    fn progress_is_hidden_off_a_terminal() {
        let plain = Terminal {
            color: false,
            progress: false,
            width: 80,
        };
        assert!(plain.bar(3).is_hidden());
        assert!(plain.spinner("loading".into()).is_hidden());
        let mut observe = plain.downloads(&plain.bar(1));
        observe(Download {
            file: "model.safetensors",
            bytes: 1,
            total_bytes: 2,
        });
    }
}
