//! Qwen3-VL checkpoints: configuration, weights, tokenizer and prompt.
#![deny(missing_docs)]
