"""Records what transformers computes in fp32, for the tests to compare with.

    python record.py shapes [NAME...]    oracles/shapes/NAME.json -> oracles/shapes/NAME.safetensors
    python record.py nano                oracles/nano -> oracles/nano/oracle.safetensors

Needs torch, transformers 4.57.6, Pillow; the tests need only what it wrote. A shape file holds a
config.json (`config`), the grid, and how the test exports it (`mode`, `query`, `chunk`). Its
checkpoint is the one that `cargo xtask synth` makes of the config, and the recorded file says which
(`checkpoint`: SHA-256 over its safetensors files in order of their names), so that a changed generator
is seen as such.

No CI job runs this script: run it by hand when a shape is new or synth changes, and commit what it writes.

Recorded for each prompt NAME: `NAME.ids` (image tokens as V + slot), `NAME.image_start` if it has an
image, and `NAME.logits`, those of the positions from `NAME.first` on, f32.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))
import tensors  # noqa: E402

BEFORE, AFTER, TEXT = 5, 12, 24  # tokens of a shape's prompts: before and after the image; text only
KEPT = 16  # recorded positions of a shape's prompt


def scramble(count):
    """`count` numbers of 0 to 255, the same everywhere: bits of a multiplicative hash of the index."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(2246822519)
    return (x ^ (x >> np.uint32(13))) >> np.uint32(24)


def load(folder):
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[key]:
            raise ValueError(f"{folder}: {key}: {sorted(info[key])}")
    return model.eval()


def logits(model, ids, grid=None, patches=None):
    """Logits [T, V] of extension ids. transformers finds the positions itself."""
    config = model.config
    plain = np.where(ids >= config.text_config.vocab_size, config.image_token_id, ids)
    row = torch.tensor(plain, dtype=torch.long)[None]
    extra = {}
    if grid:
        extra = dict(pixel_values=torch.tensor(patches), image_grid_thw=torch.tensor([[1, 2 * grid, 2 * grid]]))
    # A mask of ones: without it, transformers takes the repeated temporal positions of image tokens
    # for the borders of packed sequences.
    out = model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False, **extra)
    return out.logits[0].float().numpy()


def shape(path):
    given = json.loads(path.read_text())
    config, grid = given["config"], given["grid"]
    vocab, count = config["text_config"]["vocab_size"], grid * grid
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config))
        checkpoint = Path(folder) / "checkpoint"
        command = ["cargo", "xtask", "synth", str(file), "--out", str(checkpoint)]
        if "shard_bytes" in given:
            command += ["--shard-bytes", str(given["shard_bytes"])]
        subprocess.run(command, check=True, cwd=HERE.parent)
        digest = hashlib.sha256()
        for part in sorted(checkpoint.glob("*.safetensors")):
            digest.update(part.read_bytes())
        model = load(checkpoint)

    # Text ids stay below the special tokens, which are the last of the vocabulary.
    words = scramble(BEFORE + AFTER + TEXT).astype(np.int32) * (vocab - 32) // 256
    before, after, text = words[:BEFORE], words[BEFORE : BEFORE + AFTER], words[BEFORE + AFTER :]
    before[-1], after[0] = config["vision_start_token_id"], config["vision_end_token_id"]
    image = np.concatenate([before, vocab + np.arange(count), after]).astype(np.int32)
    patches = (scramble(4 * count * 1536).astype(np.float32) / 128 - 1).reshape(4 * count, 1536)

    recorded = {}
    for name, ids, extra in (("image", image, (grid, patches)), ("text", text, ())):
        first = len(ids) - KEPT
        recorded[f"{name}.ids"] = ids
        recorded[f"{name}.first"] = np.array([first], np.int32)
        recorded[f"{name}.logits"] = logits(model, ids, *extra)[first:]
    recorded["image.image_start"] = np.array([BEFORE], np.int32)
    tensors.save(path.with_suffix(".safetensors"), recorded, {"checkpoint": digest.hexdigest()})
    print(path.stem, "recorded")


NANO = ("scene-1", "scene-4", "scene-7", "count")


def nano():
    from PIL import Image
    from tokenizers import Tokenizer

    folder = HERE / "nano"
    model = load(folder / "checkpoint")
    tokenizer = Tokenizer.from_file(str(folder / "checkpoint" / "tokenizer.json"))
    processor = Qwen2VLImageProcessor.from_pretrained(folder / "checkpoint")
    listed = {p["name"]: p for p in json.loads((folder / "scenes" / "scenes.json").read_text())["prompts"]}
    vocab, pad = model.config.text_config.vocab_size, model.config.image_token_id
    recorded = {}
    for name in NANO:
        given, extra, vision = listed[name], (), ""
        if "image" in given:
            made = processor(Image.open(folder / "scenes" / given["image"]), return_tensors="np")
            _, side, other = made["image_grid_thw"][0].tolist()
            assert side == other
            extra, vision = (side // 2, made["pixel_values"]), "<|vision_start|>" + "<|image_pad|>" * (side * side // 4) + "<|vision_end|>"
        prompt = f"<|im_start|>user\n{vision}{given['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        head = tokenizer.encode(prompt).ids
        ids = np.array(head + tokenizer.encode(given["answer"] + "<|im_end|>").ids, np.int32)
        if vision:
            slots = np.flatnonzero(ids == pad)
            ids[slots] = vocab + np.arange(len(slots))
            recorded[f"{name}.image_start"] = slots[:1].astype(np.int32)
        rows = logits(model, ids, *extra)[len(head) - 1 : -1]
        assert (rows.argmax(-1) == ids[len(head) :]).all(), f"{name}: transformers does not give the answer"
        recorded[f"{name}.ids"] = ids[:-1]
        recorded[f"{name}.first"] = np.array([len(head) - 1], np.int32)
        recorded[f"{name}.logits"] = rows
    tensors.save(folder / "oracle.safetensors", recorded)
    print("nano recorded")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["shapes", "nano"])
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.what == "nano":
        nano()
    else:
        for file in sorted((HERE / "shapes").glob("*.json")):
            if not args.names or file.stem in args.names:
                shape(file)
