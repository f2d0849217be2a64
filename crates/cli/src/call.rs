//! What the user calls this program: `aimodel`, or `cargo xtask` within the
//! repository. Messages that name a command name one that can be typed.

/// Set by `cargo xtask`, to what was typed.
pub const VARIABLE: &str = "AIMODEL_CALLED_AS";

/// The words before a command.
pub fn name() -> String {
    let called = std::env::var(VARIABLE).ok();
    called.unwrap_or_else(|| "aimodel".to_owned())
}

/// How to have a feature that this build lacks.
pub fn build_with(feature: &str) -> String {
    match name().as_str() {
        "aimodel" => {
            format!("install one that can: cargo install --path crates/cli --features {feature}")
        }
        called => format!("use one that can: {called} --features {feature} COMMAND"),
    }
}
