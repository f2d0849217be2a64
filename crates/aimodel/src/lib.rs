//! Reader, writer, builder and verifier of Core AI .aimodel assets.
#![deny(missing_docs)]
