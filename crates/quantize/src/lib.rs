//! Int8 block quantization of weight matrices, to the bit.
#![deny(missing_docs)]
