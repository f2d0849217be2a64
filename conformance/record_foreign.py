"""Records what Core AI's runtime answers with bundles of others, as fixtures of the engine's tests.

No CI job runs this script: run it by hand in the environment with coreai-core 1.0.0b3 (and Pillow), and put
what it writes beside the bundle in crates/engine/tests/fixtures/apple.

    python record_foreign.py BUNDLE ORACLES OUTPUT.safetensors

ORACLES is oracles/nano, whose conversations are asked, those with pictures only of a bundle of kind vlm. Each
is read in one call, and 24 tokens follow one by one, past end tokens. OUTPUT receives for each conversation
NAME `NAME.logits` [V] f16, those after its last token, `NAME.tokens` [24] i32, and `NAME.margins` [24] f32, by
how many logits each of them leads.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import tensors
import vlm
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray
from PIL import Image

TOKENS = 24


class TextDecoder:
    """A bundle of kind llm with inputs and states by position: ids, positions; keys, values."""

    def __init__(self, main):
        self.main, self.seen = main, 0
        shapes = [(name, main.desc.state_descriptor(name).shape) for name in main.desc.state_names]
        self.state = {name: np.zeros([vlm.ROOM if d < 0 else d for d in s], np.float16) for name, s in shapes}

    async def step(self, ids, pictures=(), is_answer=False):
        self.seen += len(ids)
        tokens, positions = self.main.desc.input_names
        state = {name: NDArray(array) for name, array in self.state.items()}
        inputs = {
            tokens: NDArray(np.asarray(ids, np.int32)[None]),
            positions: NDArray(np.arange(self.seen, dtype=np.int32)[None]),
        }
        out = await self.main(inputs, state=state)
        self.state = {name: array.numpy().copy() for name, array in state.items()}
        return out[self.main.desc.output_names[0]].numpy()[0].copy()


def pixels(path):
    """A picture [3, H, W] as the picture crate makes it, of the size that it has."""
    levels = np.asarray(Image.open(path).convert("RGB"), np.float32)
    halves = (levels / np.float32(127.5) - np.float32(1)).astype(np.float16)
    return halves.astype(np.float32).transpose(2, 0, 1)


async def main(folder, oracles, output):
    manifest = json.loads((folder / "metadata.json").read_text())
    takes_pictures, results = manifest["kind"] == "vlm", {}
    async with AsyncExitStack() as stack:
        if takes_pictures:
            bundle = await vlm.Bundle.load(folder, stack)
        else:
            asset = AIModelAsset.load(folder / manifest["assets"]["main"])
            model = await stack.enter_async_context(asset.executable())
            decoder = model.load_function("main")
        for talk in json.loads((oracles / "conversations/conversations.json").read_text()):
            name, rows = talk["name"], []
            files = [file for turn in talk["turns"] for file in turn["pictures"]]
            if files and not takes_pictures:
                continue
            for file in files:
                rows.append(await bundle.encode(pixels(oracles / "scenes" / file)))
            ids = tensors.load(oracles / f"conversations/{name}.safetensors")[0]["input_ids"]
            talk = vlm.Conversation(bundle) if takes_pictures else TextDecoder(decoder)
            last = (await talk.step(ids, rows))[-1]
            results[f"{name}.logits"] = last
            made, margins = [], []
            for _ in range(TOKENS):
                second, first = np.partition(last.astype(np.float32), -2)[-2:]
                made.append(int(last.argmax()))
                margins.append(first - second)
                last = (await talk.step(made[-1:], is_answer=True))[-1]
            results[f"{name}.tokens"] = np.array(made, np.int32)
            results[f"{name}.margins"] = np.array(margins, np.float32)
    tensors.save(output, results)


asyncio.run(main(*map(Path, sys.argv[1:])))
