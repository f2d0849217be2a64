//! The published shapes, and configurations written out again.

use super::{ARCHITECTURE, Config, TextConfig, VisionConfig};
use serde_json::{Value, json};

impl Config {
    /// The shape of a published checkpoint: `nano`, `2b`, `4b` or `8b`; `None`
    /// for another name.
    pub fn preset(name: &str) -> Option<Config> {
        match name {
            "nano" => Some(nano()),
            "2b" => Some(published([2048, 6144, 28, 16], true, false)),
            "4b" => Some(published([2560, 9728, 36, 32], true, false)),
            "8b" => Some(published([4096, 12_288, 36, 32], false, true)),
            _ => None,
        }
    }

    /// The configuration as a `config.json` in the spelling of transformers 4;
    /// parsed again it is the same.
    pub fn to_json(&self) -> Value {
        let (text, vision) = (&self.text_config, &self.vision_config);
        json!({
            "architectures": [ARCHITECTURE],
            "dtype": "bfloat16",
            "image_token_id": self.image_token_id,
            "model_type": "qwen3_vl",
            "text_config": {
                "attention_bias": false,
                "attention_dropout": 0.0,
                "dtype": "bfloat16",
                "head_dim": text.head_dim,
                "hidden_act": "silu",
                "hidden_size": text.hidden_size,
                "initializer_range": 0.02,
                "intermediate_size": text.intermediate_size,
                "max_position_embeddings": text.max_position_embeddings,
                "model_type": "qwen3_vl_text",
                "num_attention_heads": text.num_attention_heads,
                "num_hidden_layers": text.num_hidden_layers,
                "num_key_value_heads": text.num_key_value_heads,
                "rms_norm_eps": text.rms_norm_eps,
                "rope_scaling": {
                    "mrope_interleaved": true,
                    "mrope_section": text.mrope_section,
                    "rope_type": "default"
                },
                "rope_theta": text.rope_theta,
                "tie_word_embeddings": self.tie_word_embeddings,
                "use_cache": true,
                "vocab_size": text.vocab_size
            },
            "tie_word_embeddings": self.tie_word_embeddings,
            "video_token_id": self.video_token_id,
            "vision_config": {
                "deepstack_visual_indexes": vision.deepstack_visual_indexes,
                "depth": vision.depth,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": vision.hidden_size,
                "in_channels": vision.in_channels,
                "initializer_range": 0.02,
                "intermediate_size": vision.intermediate_size,
                "model_type": "qwen3_vl",
                "num_heads": vision.num_heads,
                "num_position_embeddings": vision.num_position_embeddings,
                "out_hidden_size": vision.out_hidden_size,
                "patch_size": vision.patch_size,
                "spatial_merge_size": vision.spatial_merge_size,
                "temporal_patch_size": vision.temporal_patch_size
            },
            "vision_end_token_id": self.vision_end_token_id,
            "vision_start_token_id": self.vision_start_token_id
        })
    }
}

/// One of the published sizes; they share most of their shape.
fn published(
    [
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
    ]: [usize; 4],
    tie_word_embeddings: bool,
    large_vision: bool,
) -> Config {
    let text_config = TextConfig {
        vocab_size: 151_936,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: 8,
        head_dim: 128,
        max_position_embeddings: 262_144,
        rms_norm_eps: 1e-6,
        rope_theta: 5e6,
        mrope_section: [24, 20, 20],
    };
    let small = VisionConfig {
        depth: 24,
        hidden_size: 1024,
        intermediate_size: 4096,
        num_heads: 16,
        in_channels: 3,
        patch_size: 16,
        spatial_merge_size: 2,
        temporal_patch_size: 2,
        out_hidden_size: hidden_size,
        num_position_embeddings: 2304,
        deepstack_visual_indexes: vec![5, 11, 17],
    };
    let vision_config = if large_vision {
        VisionConfig {
            depth: 27,
            hidden_size: 1152,
            intermediate_size: 4304,
            deepstack_visual_indexes: vec![8, 16, 24],
            ..small
        }
    } else {
        small
    };
    Config {
        text_config,
        vision_config,
        image_token_id: 151_655,
        video_token_id: 151_656,
        vision_start_token_id: 151_652,
        vision_end_token_id: 151_653,
        tie_word_embeddings,
    }
}

/// The shape of the checkpoint that comes with the program.
fn nano() -> Config {
    Config {
        text_config: TextConfig {
            vocab_size: 512,
            hidden_size: 128,
            intermediate_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-6,
            rope_theta: 5e6,
            mrope_section: [6, 5, 5],
        },
        vision_config: VisionConfig {
            depth: 4,
            hidden_size: 64,
            intermediate_size: 128,
            num_heads: 4,
            in_channels: 3,
            patch_size: 16,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            out_hidden_size: 128,
            num_position_embeddings: 64,
            deepstack_visual_indexes: vec![0, 1, 2],
        },
        image_token_id: 504,
        video_token_id: 505,
        vision_start_token_id: 506,
        vision_end_token_id: 507,
        tie_word_embeddings: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_survive_being_written_and_parsed() {
        for name in ["nano", "2b", "4b", "8b"] {
            let config = Config::preset(name).unwrap();
            let json = config.to_json().to_string();
            assert_eq!(Config::parse(json.as_bytes(), name).unwrap(), config);
        }
        assert_eq!(Config::preset("3b"), None);
    }

    #[test]
    fn presets_have_the_published_numbers_of_parameters() {
        // 2,127,532,032 is what the hub shows for Qwen3-VL-2B-Instruct.
        for (name, count) in [("2b", 2_127_532_032), ("8b", 8_767_123_696)] {
            let config = Config::preset(name).unwrap();
            let sizes = crate::qwen3_vl::names::parameters(&config);
            let sum: usize = sizes
                .iter()
                .map(|p| p.shape.iter().product::<usize>())
                .sum();
            assert_eq!(sum, count, "{name}");
        }
    }
}
