//! What the fuzz targets do with an input. `stream/tests/model/corpus.rs` runs the same on the corpus.

pub mod codec;
pub mod machine;
mod neighbour;
