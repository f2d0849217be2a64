"""Decodes greedily with a vlm bundle in Core AI's runtime, as Apple's engine calls its assets.

    python generate_vlm.py BUNDLE INPUT.safetensors [--max-tokens 64] [--room 256]

INPUT holds `ids` [T] i32, and, if there are pictures, `pixels` [P, 3, H, W] f32, normalized. The prompt is
read in one call, and what follows one token a call, past end tokens. Each new id is printed on a line of
its own, with by how many logits it leads after it. `--room N` begins with a cache for N tokens.
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
    async with AsyncExitStack() as stack:
        bundle = await vlm.Bundle.load(a.bundle, stack)
        pictures = [await bundle.encode(one) for one in given.get("pixels", [])]
        talk = vlm.Conversation(bundle, a.room)
        logits = (await talk.step(given["ids"], pictures))[-1]
        for _ in range(a.max_tokens):
            token = int(logits.argmax())
            second, first = np.partition(logits.astype(np.float32), -2)[-2:]
            print(token, first - second, flush=True)
            logits = (await talk.step([token], is_answer=True))[-1]


parser = argparse.ArgumentParser()
parser.add_argument("bundle", type=Path), parser.add_argument("input")
parser.add_argument("--max-tokens", type=int, default=64)
parser.add_argument("--room", type=int, default=vlm.ROOM)
asyncio.run(main(parser.parse_args()))
