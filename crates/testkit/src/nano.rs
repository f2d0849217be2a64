//! Bundles of nano, the small trained checkpoint that comes with the sources.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use bundle::{CallShape, Layout};
use checkpoint::Source;
use export::{Exported, Options, Progress};
use quantize::Recipe;

/// int8hu for one token at a time, and the vision encoder, both called `nano`.
pub fn options() -> Options {
    Options {
        recipe: Recipe::named("int8hu").unwrap(),
        layouts: vec![Layout::Pipelined(CallShape::One)],
        grid: 4,
        max_context: 4096,
        decoder: true,
        vision: true,
        name: Some("nano".to_owned()),
        license: None,
        created: 0,
    }
}

/// Progress that goes nowhere and never cancels.
pub fn quiet() -> Progress {
    Arc::new(|_, _| ControlFlow::Continue(()))
}

/// Exports nano into a folder.
pub fn export(out: &Path, options: &Options) -> Vec<Exported> {
    export_from(&Source::nano(), out, options)
}

/// Exports a checkpoint into a folder.
pub fn export_from(source: &Source, out: &Path, options: &Options) -> Vec<Exported> {
    ::export::export(source, out, options, quiet()).unwrap()
}
