//! M-RoPE positions: as transformers records them, and as the graph has them.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use bundle::{CallShape, Layout, contract::NO_IMAGE};
use models::qwen3_vl::Config;
use models::qwen3_vl::positions;
use models::qwen3_vl::positions::GraphRope;
use models::qwen3_vl::positions::from_tokens;
use models::qwen3_vl::positions::in_graph;
use models::{Architecture, Error};
use proptest::prelude::*;
use serde_json::Value;

const PAD: u32 = 504;
const VIDEO: u32 = 505;
const OPEN: u32 = 506;
const CLOSE: u32 = 507;

const PIPELINED: Layout = Layout::Pipelined(CallShape::One);

fn config() -> Config {
    Config::preset("nano").unwrap()
}

fn numbers(list: &Value) -> Vec<i64> {
    let list = list.as_array().unwrap();
    list.iter().map(|number| number.as_i64().unwrap()).collect()
}

/// `oracles/positions.py` recorded what get_rope_index gives.
#[test]
fn positions_are_those_of_transformers() {
    let config = config();
    let cases: Value = serde_json::from_slice(include_bytes!("fixtures/positions.json")).unwrap();
    let (mut single, mut several) = (0, 0);
    for case in cases.as_array().unwrap() {
        let tokens: Vec<u32> = numbers(&case["tokens"]).iter().map(|t| *t as u32).collect();
        let grids = case["grids"].as_array().unwrap().iter();
        let grids: Vec<[usize; 2]> = grids
            .map(|grid| [0, 1].map(|axis| grid[axis].as_u64().unwrap() as usize))
            .collect();
        let axes: Vec<Vec<i64>> = (0..3).map(|a| numbers(&case["positions"][a])).collect();
        let expected: Vec<[i32; 3]> = (0..tokens.len())
            .map(|at| [0, 1, 2].map(|axis| axes[axis][at] as i32))
            .collect();
        assert_eq!(from_tokens(&tokens, &grids, &config).unwrap(), expected);
        let prompt = config.prompt(tokens.clone(), &grids, Layout::Vlm).unwrap();
        assert_eq!(config.graph_positions(&prompt, Layout::Vlm), expected);
        match positions::prompt(tokens.clone(), &grids, &config, PIPELINED) {
            Ok(prompt) => {
                let rope = GraphRope::of(&prompt, config.text_config.vocab_size);
                assert_eq!(in_graph(&prompt.ids, 0, &rope), expected);
                single += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("at most one"), "{error}");
                several += 1;
            }
        }
    }
    assert_eq!((single, several), (37, 5));
}

fn text(most: usize) -> impl Strategy<Value = Vec<u32>> {
    // Opening and closing tokens without an image are text as well.
    let token = prop_oneof![8 => 0..PAD, 1 => Just(CLOSE), 1 => Just(OPEN)];
    prop::collection::vec(token, 0..most)
}

/// A token list with an image of a grid: so much text before and after it,
/// at most.
fn image(before: usize, after: usize) -> impl Strategy<Value = (Vec<u32>, [usize; 2])> {
    let parts = (text(before), 1..9_usize, 1..9_usize, text(after));
    parts.prop_map(|(before, height, width, after)| {
        let mut tokens = before;
        tokens.push(OPEN);
        tokens.extend(std::iter::repeat_n(PAD, height * width));
        tokens.extend(after);
        (tokens, [height, width])
    })
}

/// A token list and the grid of its image, if it has one.
fn prompt() -> impl Strategy<Value = (Vec<u32>, Vec<[usize; 2]>)> {
    let kinds = [(1, 40), (40, 1), (30, 30), (8, 600)];
    let images = kinds.map(|(before, after)| {
        image(before, after)
            .prop_map(|(tokens, grid)| (tokens, vec![grid]))
            .boxed()
    });
    let text_only = text(80).prop_map(|tokens| (tokens, Vec::new())).boxed();
    prop::strategy::Union::new(images.into_iter().chain([text_only]))
}

/// Text and images of any grids, several of them, next to each other or apart.
fn conversation() -> impl Strategy<Value = (Vec<u32>, Vec<[usize; 2]>)> {
    let part = prop_oneof![
        image(1, 1),
        image(1, 40),
        text(40).prop_map(|tokens| (tokens, [0, 0])),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| {
        let grids = parts.iter().map(|(_, grid)| *grid);
        let grids = grids.filter(|grid| *grid != [0, 0]).collect();
        (
            parts.into_iter().flat_map(|(tokens, _)| tokens).collect(),
            grids,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    /// A whole prompt at once, and cut in two anywhere, as chunks or single
    /// tokens come.
    #[test]
    fn both_ways_agree((tokens, grids) in prompt(), cut in any::<prop::sample::Index>()) {
        let config = config();
        let expected = from_tokens(&tokens, &grids, &config).unwrap();
        let prompt = positions::prompt(tokens.clone(), &grids, &config, PIPELINED).unwrap();
        let rope = GraphRope::of(&prompt, config.text_config.vocab_size);
        prop_assert_eq!(&in_graph(&prompt.ids, 0, &rope), &expected);
        if !tokens.is_empty() {
            let cut = cut.index(tokens.len());
            let mut parts = in_graph(&prompt.ids[..cut], 0, &rope);
            parts.extend(in_graph(&prompt.ids[cut..], cut as i32, &rope));
            prop_assert_eq!(parts, expected);
        }
        if grids.is_empty() {
            prop_assert_eq!(rope.shift_start, NO_IMAGE);
        }
    }

    /// A decoder that takes rows knows of no grid and no list: it adds up marks.
    #[test]
    fn marks_give_the_positions_of_transformers((tokens, grids) in conversation()) {
        let config = config();
        let expected = from_tokens(&tokens, &grids, &config).unwrap();
        let prompt = config.prompt(tokens.clone(), &grids, Layout::Vlm).unwrap();
        prop_assert_eq!(prompt.hf_ids, tokens);
        prop_assert!(prompt.inputs.is_empty());
        let prompt = config.prompt(prompt.ids.iter().map(|id| *id as u32).collect(), &grids, Layout::Vlm);
        prop_assert_eq!(config.graph_positions(&prompt.unwrap(), Layout::Vlm), expected);
    }

    /// Text after an image tells a shift that is off by one. (One that starts
    /// a token early does not matter: an image token stands there.)
    #[test]
    fn a_wrong_shift_shows((tokens, grid) in image(20, 20), by in prop_oneof![Just(-1), Just(1)]) {
        let config = config();
        let prompt = positions::prompt(tokens.clone(), &[grid], &config, PIPELINED).unwrap();
        let right = GraphRope::of(&prompt, config.text_config.vocab_size);
        let expected = from_tokens(&tokens, &[grid], &config).unwrap();
        let tail = right.shift_start as usize..tokens.len();
        let mut rope = right;
        rope.shift_amount += by;
        prop_assert_eq!(in_graph(&prompt.ids, 0, &rope) != expected, !tail.is_empty());
        rope = right;
        rope.shift_start += 1;
        let told = !tail.is_empty() && rope.shift_amount > 0;
        prop_assert_eq!(in_graph(&prompt.ids, 0, &rope) != expected, told);
        rope.shift_start -= 2;
        prop_assert_eq!(in_graph(&prompt.ids, 0, &rope), expected);
    }
}

#[test]
fn token_lists_that_hold_other_images_are_refused() {
    let config = config();
    for (tokens, grids, part) in [
        (vec![OPEN, PAD], vec![], "grids of only 0"),
        (vec![1, 2], vec![[1, 1]], "has 0 images"),
        (vec![PAD], vec![[1, 1]], "vision_start_token_id"),
        (vec![1, PAD], vec![[1, 1]], "vision_start_token_id"),
        (
            vec![OPEN, PAD, PAD],
            vec![[2, 2]],
            "has 2 tokens, expected 2 · 2",
        ),
        (
            vec![OPEN, PAD, PAD],
            vec![[1, 1]],
            "has 2 tokens, expected 1 · 1",
        ),
        (vec![OPEN, PAD], vec![[usize::MAX, 2]], "expected"),
        (vec![OPEN, VIDEO], vec![], "video"),
        (vec![1, 512], vec![], "token 1 of the prompt is 512"),
    ] {
        let error = from_tokens(&tokens, &grids, &config).unwrap_err();
        assert!(matches!(error, Error::Prompt { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
