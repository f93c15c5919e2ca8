//! What the fuzz targets do with an input. The tests of the bridge run the same on the corpus.

pub mod codec;
pub mod machine;
mod neighbour;
