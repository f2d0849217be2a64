//! Reader and writer of the MLIR bytecode format, generic over dialects.
#![deny(missing_docs)]
