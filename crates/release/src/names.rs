//! The names of a release's files and folders.

use ::bundle::Layout;

/// The model card. The hub shows a file of this name.
pub const CARD: &str = "README.md";
/// Hashes of all that follows from checkpoint and recipe: see [`crate::sums`].
pub const SUMS: &str = "SHA256SUMS";
/// The release recipe.
pub const RECIPE: &str = "recipe.toml";
/// The thresholds that applied, as `gates/` had them.
pub const GATES: &str = "gates.toml";
/// The terms of the weights.
pub const LICENSE: &str = "LICENSE";
/// Whose the weights are, and what was changed.
pub const NOTICE: &str = "NOTICE";
/// The folder of pipelined bundles, and of the vision encoder beside them. Its
/// name says which engine they are for, as published repositories have it.
pub const PIPELINED: &str = "gpu-pipelined";
/// The folder of bundles of the layout `vlm`: those for Apple's own package.
pub const APPLE: &str = "apple";
/// The folders that hold bundles.
pub const BUNDLES: [&str; 2] = [PIPELINED, APPLE];
/// The folder of the transcripts. Beside exported bundles, it has the same name.
pub const TRANSCRIPTS: &str = "transcripts";

/// The name of a transcript about a decoder's bundle on a device.
pub fn transcript(decoder: &str, device: &str) -> String {
    format!("{decoder}_{device}.json")
}

/// The folder that bundles of a layout are in.
pub fn bundles(layout: Layout) -> &'static str {
    match layout {
        Layout::Pipelined(_) => PIPELINED,
        Layout::Vlm => APPLE,
    }
}

/// Whether a release has a file of this name, or a folder that it is in.
pub(crate) fn is_known(path: &str) -> bool {
    match path.split_once('/') {
        Some((folder, _)) => BUNDLES.contains(&folder) || folder == TRANSCRIPTS,
        None => [CARD, SUMS, RECIPE, GATES, LICENSE, NOTICE].contains(&path),
    }
}

/// Whether a path lies in a folder.
pub(crate) fn is_in(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.starts_with('/'))
}
