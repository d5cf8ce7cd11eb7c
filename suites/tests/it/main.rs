//! Suites from their YAML and parquet files to scores.

mod datasets;
mod fixtures;
mod oracle;
mod predictions;
mod specs;
mod synth;
