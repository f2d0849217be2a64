//! Lowering of Qwen3-VL to AICode graphs and LanguageBundles.
#![deny(missing_docs)]
