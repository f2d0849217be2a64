"""Records what get_rope_index of transformers gives for token lists of many kinds, for the tests.

No CI job runs this script: run it by hand, and commit what it writes.

    python positions.py    -> ../crates/models/tests/fixtures/positions.json

Needs torch and transformers, 4.57 or 5: both give the same file. The lists are nano's: text, images
first, last, one after the other, oblong, and much text after an image.
"""

import json
import random
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "crates/models/tests/fixtures/positions.json"


def cases(config):
    """Token lists with the grids (rows, columns) of their images."""
    rng = random.Random(3)

    def text(max_tokens):
        return [rng.randrange(504) for _ in range(rng.randint(0, max_tokens))]

    def image(height, width):
        return [config.vision_start_token_id] + [config.image_token_id] * (height * width) + [config.vision_end_token_id]

    def side():
        return rng.randint(1, 6)

    for _ in range(6):
        yield text(40) or [1], []
    for before, after in [(0, 20), (20, 0), (20, 20), (5, 200), (0, 0)] * 6:
        grid = [side(), side()]
        yield text(before) + image(*grid) + text(after), [grid]
    for images in (2, 2, 3, 3, 4):
        grids = [[side(), side()] for _ in range(images)]
        row = text(10)
        for grid in grids:
            row += image(*grid) + text(10)
        yield row, grids
    # An image that ends the list: nothing closes it.
    grid = [4, 4]
    yield text(10) + image(*grid)[:-1], [grid]


def main():
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(HERE / "nano/checkpoint").model
    merge, recorded = model.config.vision_config.spatial_merge_size, []
    for tokens, grids in cases(model.config):
        row = torch.tensor([tokens])
        given = dict(input_ids=row, attention_mask=torch.ones_like(row))
        if grids:
            given["image_grid_thw"] = torch.tensor([[1, merge * h, merge * w] for h, w in grids])
        if int(transformers.__version__.split(".")[0]) >= 5:
            given["mm_token_type_ids"] = (row == model.config.image_token_id).int()
        positions = model.get_rope_index(**given)[0][:, 0]
        recorded.append({"tokens": tokens, "grids": grids, "positions": positions.tolist()})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in recorded)
    OUT.write_text(f"[\n{lines}\n]\n")
    print(len(recorded), "lists recorded")


if __name__ == "__main__":
    main()
