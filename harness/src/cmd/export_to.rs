//! `--export FORMAT[=FILE]`: a format by its name, and where it goes.

use std::path::PathBuf;
use std::str::FromStr;

/// A format of type `F` with the file that was named for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportTo<F> {
    /// What to write.
    pub format: F,
    /// Where to; a name of the format's own if it was not said.
    pub file: Option<PathBuf>,
}

impl<F: FromStr<Err = String>> FromStr for ExportTo<F> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, file) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no file after the `=`".into()),
            Some((format, file)) => (format, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let format = format.parse()?;
        Ok(ExportTo { format, file })
    }
}

#[cfg(test)]
mod tests {
    use vlmbench_reports::gate::Export;

    use super::*;

    #[test]
    fn a_format_may_have_a_file() {
        let parse = |text: &str| text.parse::<ExportTo<Export>>();
        let bare = parse("junit").unwrap();
        assert_eq!((bare.format, bare.file), (Export::Junit, None));
        let to = parse("summary=a=b.md").unwrap();
        assert_eq!(to.file, Some("a=b.md".into()));
        assert!(parse("summary=").unwrap_err().contains("no file"));
        assert!(parse("xml=x").unwrap_err().contains("junit"));
    }
}
