//! Pictures of models whose patches have another shape than the published ones:
//! `ask` cuts them as the checkpoint's configuration says. Shapes alone would
//! not do: 8 frames of 16 × 16 pixels are as many values as 2 of 32 × 32.

use std::{ops::ControlFlow, sync::Arc};

use bundle::{CallShape, Layout};
use checkpoint::Source;
use engine::{Conversation, Limits, Model, Options, Sampler};
use models::qwen3_vl::{Config, synth};
use picture::Image;
use quantize::Recipe;

const GRID: usize = 2;

#[test]
fn pictures_are_cut_as_the_configuration_says() {
    let level = |index: usize| (index * 37 % 251) as u8;
    let levels = (0..3 * 50 * 40).map(level).collect();
    let image = Image::from_rgb(50, 40, levels).unwrap();
    for (frames, patch) in [(8, 16), (8, 14), (1, 16), (2, 16)] {
        let mut config = Config::preset("nano").unwrap();
        config.vision_config.temporal_patch_size = frames;
        config.vision_config.patch_size = patch;
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        synth::write(&config, &checkpoint, synth::Options::default(), |_, _| {}).unwrap();
        let options = export::Options {
            recipe: Recipe::named("int8hu").unwrap(),
            layouts: vec![Layout::Pipelined(CallShape::One)],
            grid: GRID as u64,
            max_context: 256,
            decoder: true,
            vision: true,
            name: Some("frames".to_owned()),
            license: None,
            created: 0,
        };
        let source = Source::folder(&checkpoint).unwrap();
        let go_on = Arc::new(|_, _| ControlFlow::Continue(()));
        let bundles = export::export(&source, folder.path(), &options, go_on).unwrap();

        let device = runtime::candle_core::Device::Cpu;
        let model = Model::open(&bundles[0].path, Options::new(device)).unwrap();
        let question = Conversation::question("hi", [&image]);
        let prompt = model.prompt(&question).unwrap();
        let expected = image.patches(GRID, &config.vision_config).unwrap();
        assert_eq!(expected.cols, 3 * frames * patch * patch);
        assert!(prompt.patches == [expected], "{frames} frames of {patch}");
        // And the vision encoder takes them.
        let mut session = model.session();
        let answer = session.answer(&question, &mut Sampler::greedy(), Limits::new(1), |_| {
            ControlFlow::Continue(())
        });
        assert_eq!(answer.unwrap().tokens.len(), 1);
    }
}
