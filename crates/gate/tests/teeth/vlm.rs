//! Faults of vlm bundles.

use std::fs;

use aimodel::{Module, Value};
use bundle::AssetRole;
use serde_json::json;
use testkit::repository;

use crate::{
    common::{Case, edit_json},
    faults::{Fault, fault},
    surgery::{Main, blobs},
};

/// Bytes of an element.
const F16: usize = 2;
/// nano's hidden size, which its marks begin behind four times of.
const HIDDEN: usize = 128;
/// Elements of a row from the marks on.
const MARKS: usize = 32;

/// All of them, in the order of the table.
pub const FAULTS: &[Fault] = &[
    fault("marks not carried between calls", marks_forgotten),
    fault("own marks not subtracted", own_marks),
    fault("marks of a call kept one token late", marks_late),
    fault("row and column of marks exchanged", rows_and_columns),
    fault("the last mark of a picture missing", last_mark),
    fault("DeepStack parts of rows exchanged", parts_exchanged),
    fault(
        "DeepStack part of layer 1 read one element further",
        part_shifted,
    ),
    fault("frequencies of rows and columns exchanged", frequencies),
    fault("rows of the embedding asset one further", embedding_offset),
    fault("template not mended", own_template),
    fault("mean of 0.48 in metadata.json", other_mean),
    fault("another picture token in metadata.json", other_token),
];

fn program(case: &mut Case, role: AssetRole, change: impl FnOnce(&mut Module)) {
    case.vlm_program(role, change);
}

/// What the positions of a call are made of.
struct Positions {
    /// The advances of all tokens before the call, `[1, 1]`: the difference of all
    /// and of the call's own.
    before: Value,
    /// t, `[1, S]`.
    u: Value,
}

fn positions(main: &Main<'_>) -> Positions {
    let sums = main.all("reduce_sum_v1", &[]);
    // All that is kept, the call's own, and each token's within the call.
    let [all, own, _] = sums[..] else {
        panic!("{} sums", sums.len());
    };
    let before = main.one("broadcasting_sub_v1", &[all, own]);
    let with_before = main.one("broadcasting_add_v1", &[before]);
    let u = main.one("broadcasting_add_v1", &[with_before]);
    Positions { before, u }
}

fn marks_forgotten(case: &mut Case) {
    program(case, AssetRole::Main, |module| {
        let mut main = Main::of(module);
        let at = positions(&main);
        let own = main.operands(at.before)[1];
        main.set_operand(at.before, 0, own);
    });
}

fn own_marks(case: &mut Case) {
    program(case, AssetRole::Main, |module| {
        let mut main = Main::of(module);
        let at = positions(&main);
        let all = main.operands(at.before)[0];
        main.replace(at.before, all, None);
    });
}

/// What is kept is of the tokens before: the first one's is nothing.
fn marks_late(case: &mut Case) {
    program(case, AssetRole::Vision, |module| {
        marks(module, |tokens| {
            for token in (1..tokens.len()).rev() {
                tokens[token][2] = tokens[token - 1][2];
            }
            tokens[0][2] = [0; F16];
        });
    });
}

fn rows_and_columns(case: &mut Case) {
    program(case, AssetRole::Vision, |module| {
        marks(module, |tokens| {
            for token in tokens {
                token.swap(0, 1);
            }
        });
    });
}

fn last_mark(case: &mut Case) {
    program(case, AssetRole::Vision, |module| {
        marks(module, |tokens| {
            let last = tokens.len() - 1;
            tokens[last][2] = tokens[0][2];
        });
    });
}

/// Changes the marks of a picture's tokens.
fn marks(module: &mut Module, change: impl FnOnce(&mut [Vec<[u8; F16]>])) {
    let mut change = Some(change);
    blobs(module, ("marks", ""), 1, |bytes| {
        let mut tokens: Vec<Vec<[u8; F16]>> = bytes
            .chunks_exact(F16 * MARKS)
            .map(|token| token.as_chunks::<F16>().0.to_vec())
            .collect();
        change.take().unwrap()(&mut tokens);
        *bytes = tokens.concat().concat();
    });
}

fn parts_exchanged(case: &mut Case) {
    program(case, AssetRole::Vision, |module| {
        let mut vision = Main::of(module);
        let reshaped = vision.outputs()[0];
        let rows_f16 = vision.operands(reshaped)[0];
        let rows = vision.operands(rows_f16)[0];
        // The axis, the embeddings, three parts and the marks.
        let parts = vision.operands(rows);
        assert_eq!(parts.len(), 6);
        vision.set_operand(rows, 2, parts[3]);
        vision.set_operand(rows, 3, parts[2]);
    });
}

fn part_shifted(case: &mut Case) {
    program(case, AssetRole::Main, |module| {
        let mut main = Main::of(module);
        let rows = main.input("inputs_embeds");
        let parts = main.all("primitive.slice_v1", &[rows]);
        // The embedding, three marks, and a part for each of three layers.
        assert_eq!(parts.len(), 7);
        let part = parts[5];
        for (at, column) in [(1, 2 * HIDDEN), (2, 3 * HIDDEN)] {
            let bound = main.operands(part)[at];
            let [rest, moved] = [i32::MAX, column as i32 + 1];
            let first = if at == 1 { 0 } else { rest };
            let bytes = [first, first, moved].map(i32::to_le_bytes).concat();
            let further = main.constant(bound, &bytes);
            main.set_operand(part, at, further);
        }
    });
}

fn frequencies(case: &mut Case) {
    program(case, AssetRole::Main, |module| {
        let mut main = Main::of(module);
        let at = positions(&main);
        let axes = main.all("broadcasting_add_v1", &[at.u]);
        let [h, w] = axes[..] else {
            panic!("{} axes", axes.len());
        };
        // Each becomes a column, which a vector of frequencies is multiplied with.
        let [of_h, of_w] = [h, w].map(|axis| {
            let column = main.one("primitive.expand_dims_v1", &[axis]);
            main.one("broadcasting_mul_v1", &[column])
        });
        let [own_h, own_w] = [of_h, of_w].map(|angle| main.operands(angle)[1]);
        main.set_operand(of_h, 1, own_w);
        main.set_operand(of_w, 1, own_h);
    });
}

fn embedding_offset(case: &mut Case) {
    program(case, AssetRole::Embedding, |module| {
        blobs(module, ("", "embed_tokens.weight"), 1, |bytes| {
            bytes.rotate_left(F16 * HIDDEN);
        });
    });
}

fn own_template(case: &mut Case) {
    let own = repository().join("oracles/nano/checkpoint/chat_template.jinja");
    fs::copy(own, case.vlm_file("tokenizer/chat_template.jinja")).unwrap();
}

fn other_mean(case: &mut Case) {
    edit_json(&case.vlm_file("metadata.json"), |manifest| {
        manifest["vision"]["image_mean"] = json!([0.48, 0.48, 0.48]);
    });
}

fn other_token(case: &mut Case) {
    edit_json(&case.vlm_file("metadata.json"), |manifest| {
        manifest["vision"]["image_token_id"] = json!(505);
    });
}
