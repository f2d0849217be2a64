"""Decodes greedily with exported bundles in Core AI's runtime, one token a step.

    python generate.py DECODER.aimodel VISION.aimodel INPUT.safetensors --end ID... [--max-tokens 64] [--margins]

INPUT holds `ids` [T] i32, image tokens as V + slot, and, if there is an image, `patches` [4N, 1536]
f16 and `image_start` [1] i32. Each new id is printed on a line of its own as soon as it is known, with
--margins after it by how many logits it leads; the end token that stops the loop is printed too.
"""

import argparse
import asyncio

import numpy as np
import tensors
from coreai.authoring import AIModelAsset
from decoder import Decoder, encode_image


async def main(a):
    given, _ = tensors.load(a.input)
    ids, image = given["ids"], None
    if "patches" in given:
        async with AIModelAsset.load(a.vision).executable() as encoder:
            embeds = await encode_image(encoder.load_function("main"), given["patches"])
        image = (*embeds, int(given["image_start"][0]))
    async with AIModelAsset.load(a.decoder).executable() as model:
        decoder = Decoder(model.load_function("main"), len(ids) + a.max_tokens, image)
        for token in ids:
            logits = await decoder.step([token])
        for _ in range(a.max_tokens):
            token = int(logits[-1].argmax())
            print(token, *([lead(logits[-1])] if a.margins else []), flush=True)
            if token in a.end:
                break
            logits = await decoder.step([token])


def lead(logits):
    second, first = np.partition(logits.astype(np.float32), -2)[-2:]
    return first - second


parser = argparse.ArgumentParser()
parser.add_argument("decoder"), parser.add_argument("vision"), parser.add_argument("input")
parser.add_argument("--end", type=int, nargs="+", required=True)
parser.add_argument("--max-tokens", type=int, default=64)
parser.add_argument("--margins", action="store_true")
asyncio.run(main(parser.parse_args()))
