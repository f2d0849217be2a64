"""Reads conversations with a vlm bundle in Core AI's runtime, as Apple's engine calls its assets.

    python run_vlm.py BUNDLE INPUT.safetensors OUTPUT.safetensors [--room 256] [--tokens 0]

INPUT holds for each conversation NAME `NAME.ids` [T] i32, if there are pictures `NAME.pixels` [P, 3, H, W]
f32, normalized, and `NAME.cuts` [C] i32: after how many tokens each call ends, the last after all. OUTPUT
receives `NAME.logits` [T, V] f16 and, with --tokens, `NAME.tokens` i32, the best ones after them.
"""

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import tensors
import vlm


async def main(a):
    given, _ = tensors.load(a.input)
    results = {}
    async with AsyncExitStack() as stack:
        bundle = await vlm.Bundle.load(a.bundle, stack)
        for name in [key.removesuffix(".ids") for key in given if key.endswith(".ids")]:
            ids, pixels = given[f"{name}.ids"], given.get(f"{name}.pixels", [])
            rows = [await bundle.encode(one) for one in pixels]
            rows = np.concatenate(rows) if rows else np.zeros((0, 0), np.float16)
            talk = vlm.Conversation(bundle, a.room)
            logits, begin, taken = [], 0, 0
            for end in given[f"{name}.cuts"]:
                part = ids[begin:end]
                count = int((part == bundle.image_token).sum())
                logits.append(await talk.step(part, [rows[taken : taken + count]] if count else []))
                begin, taken = end, taken + count
            results[f"{name}.logits"] = np.concatenate(logits)
            last, made = logits[-1][-1], []
            for _ in range(a.tokens):
                made.append(int(last.argmax()))
                last = (await talk.step(made[-1:], is_answer=True))[-1]
            if made:
                results[f"{name}.tokens"] = np.array(made, np.int32)
                results[f"{name}.room"] = np.array([talk.room], np.int32)
    tensors.save(a.output, results)


parser = argparse.ArgumentParser()
parser.add_argument("bundle", type=Path), parser.add_argument("input"), parser.add_argument("output")
parser.add_argument("--room", type=int, default=vlm.ROOM)
parser.add_argument("--tokens", type=int, default=0)
asyncio.run(main(parser.parse_args()))
