"""What training and evaluation share: the checkpoint's shape, its prompt format, its patches."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE / "checkpoint"

PATCH, MERGE, TEMPORAL = 16, 2, 2
GRID = 4  # merged image tokens a side at 128 x 128
IMAGE_TOKENS = GRID * GRID
GRID_THW = (1, GRID * MERGE, GRID * MERGE)

# The ids after the 504 byte-level BPE tokens; id 511 is never used.
SPECIAL = {
    "<|image_pad|>": 504,
    "<|video_pad|>": 505,
    "<|vision_start|>": 506,
    "<|vision_end|>": 507,
    "<|im_start|>": 508,
    "<|im_end|>": 509,
    "<|endoftext|>": 510,
}
VOCAB = 512
IMAGE_START = 4  # "<|im_start|>", "user", "\n", "<|vision_start|>" come before the image


def config():
    """The Qwen3-VL configuration of nano."""
    return Qwen3VLConfig(
        text_config=dict(
            vocab_size=VOCAB, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, hidden_act="silu",
            max_position_embeddings=4096, rms_norm_eps=1e-6, rope_theta=5e6, tie_word_embeddings=True,
            rope_scaling=dict(rope_type="default", mrope_section=[6, 5, 5], mrope_interleaved=True),
            attention_bias=False, attention_dropout=0.0, initializer_range=0.02,
            bos_token_id=None, eos_token_id=SPECIAL["<|im_end|>"], pad_token_id=SPECIAL["<|endoftext|>"],
        ),
        vision_config=dict(
            depth=4, hidden_size=64, intermediate_size=128, num_heads=4, in_channels=3,
            patch_size=PATCH, spatial_merge_size=MERGE, temporal_patch_size=TEMPORAL,
            out_hidden_size=128, num_position_embeddings=64, deepstack_visual_indexes=[0, 1, 2],
            hidden_act="gelu_pytorch_tanh", initializer_range=0.02,
        ),
        image_token_id=SPECIAL["<|image_pad|>"], video_token_id=SPECIAL["<|video_pad|>"],
        vision_start_token_id=SPECIAL["<|vision_start|>"], vision_end_token_id=SPECIAL["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def tokenizer():
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


def prompt(text, image):
    """The chat template's rendering of one user turn, the image's pads written out."""
    vision = "<|vision_start|>" + "<|image_pad|>" * IMAGE_TOKENS + "<|vision_end|>" if image else ""
    return f"<|im_start|>user\n{vision}{text}<|im_end|>\n<|im_start|>assistant\n"


def encode(tok, text, answer, image):
    """Ids of prompt and answer with its closing "<|im_end|>\\n", and how many belong to the prompt."""
    head = tok.encode(prompt(text, image)).ids
    return head + tok.encode(f"{answer}<|im_end|>\n").ids, len(head)


def patches(images):
    """uint8 pictures [B, 128, 128, 3] to float patches [B * 64, 1536].

    x / 127.5 - 1; block-major order (2 x 2 blocks row-major, then within the block); a patch is
    [channel, frame, row, column] flattened, the one frame standing twice.
    """
    b = images.shape[0]
    x = images.float() / 127.5 - 1.0
    x = x.view(b, GRID, MERGE, PATCH, GRID, MERGE, PATCH, 3)
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6)  # batch, block row, block column, row, column, C, P, P
    x = x.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, TEMPORAL, -1, -1)
    return x.reshape(b * GRID * GRID * MERGE * MERGE, -1)


def positions(length, image):
    """M-RoPE positions [3, length] of a row: what transformers' get_rope_index gives, right padded."""
    ramp = torch.arange(length).repeat(3, 1)
    if image:
        end = IMAGE_START + IMAGE_TOKENS
        slots = torch.arange(IMAGE_TOKENS)
        ramp[:, end:] -= IMAGE_TOKENS - GRID
        ramp[0, IMAGE_START:end] = IMAGE_START
        ramp[1, IMAGE_START:end] = IMAGE_START + slots // GRID
        ramp[2, IMAGE_START:end] = IMAGE_START + slots % GRID
    return ramp


def forward(model, ids, pixels, images):
    """Logits [B, S, vocab] of padded rows of which the first `images` rows hold a picture."""
    b, s = ids.shape
    pos = torch.stack([positions(s, r < images) for r in range(b)], dim=1).to(ids.device)
    grid = torch.tensor([GRID_THW] * images, device=ids.device) if images else None
    # An explicit mask of ones: without it transformers takes the repeated temporal positions of
    # image tokens for the borders of packed sequences and masks across them.
    return model(
        input_ids=ids, position_ids=pos, attention_mask=torch.ones_like(ids),
        pixel_values=pixels if images else None, image_grid_thw=grid, use_cache=False,
    ).logits


def load(folder=CHECKPOINT, dtype=torch.float32):
    """The model in `dtype`; refuses a checkpoint that lacks a tensor or has one too many."""
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(
        folder, torch_dtype=dtype, output_loading_info=True
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[key]:
            raise ValueError(f"{folder}: {key}: {sorted(info[key])}")
    return model.eval()


def gate_prompts():
    """The prompts whose margins are gated: (name, question, expected answer, picture file or None)."""
    listed = json.loads((HERE / "scenes" / "scenes.json").read_text())
    return [(p["name"], p["prompt"], p["answer"], p.get("image")) for p in listed["prompts"]]


def read_picture(name):
    """A committed picture as uint8 [1, 128, 128, 3]."""
    from PIL import Image

    picture = np.array(Image.open(HERE / "scenes" / name).convert("RGB"))
    return torch.from_numpy(picture)[None]
