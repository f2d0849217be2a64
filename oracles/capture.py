"""Records what transformers computes in fp32 for a checkpoint's prompts: the oracle of the gates.

    python capture.py --model nano/checkpoint --grid 4 --out nano/recorded \\
        --prompt scene-1 "what is in the image ?" nano/scenes/scene-1.png \\
        --prompt count "count from one to twenty ."

`--model` is a folder, or an id on the hub with `--revision`. Needs torch, transformers (4.57 or 5),
numpy, Pillow; what reads the oracle needs only the files. Exit code 3, and nothing written, when a
checkpoint or a prompt cannot serve as an oracle; the last line on standard error says why. 2 for bad usage.

OUT/index.json says what was recorded, of which checkpoint (`checkpoint`: SHA-256 over its safetensors
files in order of their names, those that the shard index names) and with what. OUT/NAME.safetensors holds, for a prompt of P tokens and
G greedy ones that transformers adds to it, T = P + max(G, 1) - 1:

    input_ids        i32 [T]         as transformers has them: prompt, then all greedy tokens but the last
    position_ids     i32 [3, T]      t, h, w
    greedy_ids       i32 [G]         end tokens do not end it
    hidden_states    f32 [L, P, h]   after each decoder layer, DeepStack added: what the next layer reads
    keys, values     f32 [L, 1, KV, P, D]   the cache after the prompt
    logits           f32 [T, V]
    margins          f32 [T]         by how much the largest logit leads
    patches          u8 [4N, C T P P]  with an image: pixel levels; the tower's input is x / 127.5 - 1
    image_embeds     f32 [N, h]      with an image
    deepstack_embeds f32 [K N, h]    with an image: tap 0's rows, then tap 1's, ...

Gated positions are those that make a greedy token: P - 1 to T - 1. Each must lead by 0.1 logits, or
the prompt is refused: another program could rightly choose another token there. With `--steps 0`
there are none, and what is recorded can be compared by cosine alone: for random weights.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "conformance"))
import tensors  # noqa: E402

VERSION = 1
MIN_MARGIN = 0.1  # logits
REFUSED = 3  # exit code; Python itself ends with 1, argparse with 2


class Refused(Exception):
    """Why a checkpoint or a prompt cannot serve."""


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Oracle:
    """A checkpoint in transformers, fp32, on the CPU."""

    def __init__(self, model, revision, grid):
        self.grid = grid
        self.folder = Path(model)
        if not self.folder.is_dir():
            from huggingface_hub import snapshot_download

            self.folder = Path(snapshot_download(model, revision=revision, allow_patterns=["*.json", "*.jinja", "*.txt", "*.safetensors"]))
        load = dict(dtype=torch.float32, output_loading_info=True)
        self.model, info = transformers.Qwen3VLForConditionalGeneration.from_pretrained(self.folder, **load)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[key]:
                raise Refused(f"{model}: {key}: {sorted(map(str, info[key]))}")
        self.model.eval()
        # Nothing that the checkpoint's own settings say of sampling, penalties or ends applies here.
        self.model.generation_config = transformers.GenerationConfig(pad_token_id=0)
        self.config = self.model.config
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)

    def checkpoint(self):
        """SHA-256 over the safetensors files in order of their names."""
        parts = ["model.safetensors"]
        if not (self.folder / parts[0]).exists():
            index = json.loads((self.folder / "model.safetensors.index.json").read_text())
            parts = sorted(set(index["weight_map"].values()))
        whole = hashlib.sha256()
        for part in parts:
            with open(self.folder / part, "rb") as file:
                while block := file.read(1 << 24):
                    whole.update(block)
        return whole.hexdigest()

    def patches(self, image):
        """Pixel values [4N, patch] of a picture: stretched to the grid's square, cut by the image processor."""
        from PIL import Image

        vision = self.config.vision_config
        side = self.grid * vision.patch_size * vision.spatial_merge_size
        square = Image.open(image).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        # transformers 5 gave the class without torchvision another name.
        kind = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
        if (self.folder / "preprocessor_config.json").exists():
            processor = kind.from_pretrained(self.folder)
        else:
            processor = kind(patch_size=vision.patch_size, temporal_patch_size=vision.temporal_patch_size,
                             merge_size=vision.spatial_merge_size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        made = processor(square, do_resize=False, return_tensors="np")
        if np.asarray(made["image_grid_thw"]).tolist() != [self.thw()]:
            raise Refused(f"the image processor makes a grid of {made['image_grid_thw']}, expected {self.thw()}")
        values = np.asarray(made["pixel_values"], np.float32)
        levels = (values + 1) * 127.5
        if np.abs(levels - levels.round()).max() > 1e-3:
            raise Refused("the image processor does not normalize by x / 127.5 - 1; a bundle's host would have to do the same")
        return values, levels.round().astype(np.uint8)

    def thw(self):
        side = self.grid * self.config.vision_config.spatial_merge_size
        return [1, side, side]

    def tokens(self, text, image):
        """Token ids of a user's turn, the image's pads written out, and the text of it."""
        content = [{"type": "image"}] * bool(image) + [{"type": "text", "text": text}]
        turn = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        pad = self.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        if turn.count(pad) != bool(image):
            raise Refused(f"the chat template writes {turn.count(pad)} {pad}, expected {int(bool(image))}: {turn!r}")
        whole = turn.replace(pad, pad * self.grid**2)
        return self.tokenizer(whole, add_special_tokens=False)["input_ids"], turn

    def inputs(self, ids, pixels):
        """What the model takes. It finds the positions itself."""
        row = torch.tensor([ids])
        # A mask of ones: without it, transformers takes the repeated temporal positions of image
        # tokens for the borders of packed sequences.
        given = dict(input_ids=row, attention_mask=torch.ones_like(row))
        if pixels is not None:
            given |= dict(pixel_values=torch.from_numpy(pixels), image_grid_thw=torch.tensor([self.thw()]))
            if int(transformers.__version__.split(".")[0]) >= 5:
                given["mm_token_type_ids"] = (row == self.config.image_token_id).int()
        return given

    def forward(self, ids, pixels):
        """One call without a past, and what went on inside."""
        text, visual = self.model.model.language_model, self.model.model.visual
        seen, hooks = {}, []

        def keep(name, module, before=False):
            def note(_, args, kwargs, out=None):
                # Some versions change a layer's output in place after it returned.
                seen[name] = (args[0] if before else out).detach().clone()

            register = module.register_forward_pre_hook if before else module.register_forward_hook
            hooks.append(register(note, with_kwargs=True))

        def positions(_, args, kwargs):
            seen["positions"] = (kwargs["position_ids"] if "position_ids" in kwargs else args[1]).clone()

        hooks.append(text.rotary_emb.register_forward_pre_hook(positions, with_kwargs=True))
        after = list(text.layers[1:]) + [text.norm]
        for index, module in enumerate(after):
            keep(index, module, before=True)
        if pixels is not None:
            keep("image_embeds", visual.merger)
            for tap, module in enumerate(visual.deepstack_merger_list):
                keep(f"deepstack {tap}", module)
        try:
            out = self.model(**self.inputs(ids, pixels), use_cache=True)
        finally:
            for hook in hooks:
                hook.remove()
        taps = len(visual.deepstack_merger_list)
        found = {
            "position_ids": seen["positions"].reshape(3, -1).int(),
            "hidden_states": torch.cat([seen[index] for index in range(len(after))]),
            "logits": out.logits[0],
            "keys": torch.stack([layer.keys for layer in out.past_key_values.layers]),
            "values": torch.stack([layer.values for layer in out.past_key_values.layers]),
        }
        if pixels is not None:
            found["image_embeds"] = seen["image_embeds"]
            found["deepstack_embeds"] = torch.cat([seen[f"deepstack {tap}"] for tap in range(taps)])
        return {name: value.numpy() for name, value in found.items()}

    def record(self, name, text, image, steps):
        """The tensors of a prompt, and its entry in the index."""
        ids, turn = self.tokens(text, image)
        pixels, levels = self.patches(image) if image else (None, None)
        greedy = []
        if steps:
            made = self.model.generate(**self.inputs(ids, pixels), max_new_tokens=steps, do_sample=False)
            greedy = made[0, len(ids) :].tolist()
        if len(greedy) != steps:
            raise Refused(f"{name}: transformers stopped after {len(greedy)} of {steps} tokens")
        # The prompt alone, and the whole row without a cache: a second opinion on the greedy tokens.
        prompt, whole = self.forward(ids, pixels), self.forward(ids + greedy[:-1], pixels)
        top = np.sort(whole["logits"], -1)[:, -2:]
        margins = top[:, 1] - top[:, 0]
        first = len(ids) - 1
        for step, token in enumerate(greedy):
            at = first + step
            if margins[at] < MIN_MARGIN:
                raise Refused(
                    f"{name}: greedy token {step} leads by {margins[at]:.4f} logits, at least {MIN_MARGIN} is needed; "
                    "another prompt, image or fewer --steps may help"
                )
            if whole["logits"][at].argmax() != token:
                raise Refused(f"{name}: greedy token {step} is {token} with a cache, {whole['logits'][at].argmax()} without")
        recorded = {
            "input_ids": np.array(ids + greedy[:-1], np.int32),
            "position_ids": whole["position_ids"],
            "greedy_ids": np.array(greedy, np.int32),
            "hidden_states": prompt["hidden_states"],
            "keys": prompt["keys"],
            "values": prompt["values"],
            "logits": whole["logits"],
            "margins": margins.astype(np.float32),
        }
        entry = {"name": name, "prompt": text, "text": turn, "prompt_tokens": len(ids)}
        if image:
            recorded |= {key: prompt[key] for key in ("image_embeds", "deepstack_embeds")}
            recorded["patches"] = levels
            entry["image"] = {
                "file": Path(image).name,
                "sha256": digest(Path(image).read_bytes()),
                "grid": [self.grid, self.grid],
                "start": ids.index(self.config.image_token_id),
                "patches_sha256": digest(levels.tobytes()),
            }
        lowest = round(float(margins[first:].min()), 4)
        entry |= {
            "greedy_text": self.tokenizer.decode(greedy),
            "gated": {"first": first, "last": first + steps - 1, "least_margin": lowest} if steps else None,
        }
        return recorded, entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", help="what the index calls the model; by default the last part of --model")
    parser.add_argument("--revision")
    parser.add_argument("--grid", type=int, default=14, help="merged image tokens a side")
    parser.add_argument("--steps", type=int, default=24, help="greedy tokens, 0 for none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompt", nargs="+", action="append", required=True, metavar=("NAME", "TEXT"),
                        help="name, text, and a picture if there is one; repeat for more prompts")
    args = parser.parse_args()
    if any(len(given) not in (2, 3) for given in args.prompt):
        parser.error("--prompt takes a name, a text, and at most one picture")
    if args.steps < 0 or args.grid < 1:
        parser.error("--steps may be 0 or more, --grid 1 or more")
    if len({given[0] for given in args.prompt}) != len(args.prompt):
        parser.error("two prompts have the same name")
    torch.set_grad_enabled(False)
    try:
        oracle = Oracle(args.model, args.revision, args.grid)
        recorded = [oracle.record(name, text, *(rest or [None]), args.steps) for name, text, *rest in args.prompt]
    except Refused as why:
        print(f"refused: {why}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
    args.out.mkdir(parents=True, exist_ok=True)
    entries = []
    for made, entry in recorded:
        file = args.out / f"{entry['name']}.safetensors"
        tensors.save(file, made)
        entries.append(entry | {"file": file.name, "sha256": digest(file.read_bytes())})
        gated = f"min margin {entry['gated']['least_margin']}" if entry["gated"] else "nothing gated"
        print(f"{entry['name']}: {entry['prompt_tokens']} tokens, {gated}: {entry['greedy_text']!r}")
    index = {
        "version": VERSION,
        "model": args.name or Path(args.model).name,
        "revision": args.revision,
        "checkpoint": oracle.checkpoint(),
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "dtype": "float32"},
        "steps": args.steps,
        "prompts": entries,
    }
    (args.out / "index.json").write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
