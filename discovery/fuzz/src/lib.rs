//! What the fuzz targets do with an input. `discovery/tests/records.rs` runs the same on the corpus.

pub mod record;
