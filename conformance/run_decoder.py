"""Runs given prompts through exported bundles in Core AI's runtime, token by token or in chunks.

    python run_decoder.py DECODER.aimodel VISION.aimodel INPUT.safetensors OUTPUT.safetensors
                          [--function main] [--chunk 1]

INPUT holds for each prompt NAME `NAME.ids` [T] i32, image tokens as V + slot, and, if it has an
image, `NAME.patches` [4N, 1536] f16 and `NAME.image_start` [1] i32. OUTPUT receives `NAME.logits`
[T, V] f16. A last chunk that is not full is filled with zeros, and their logits are left out: nothing
that comes later reaches back to an earlier position.
"""

import argparse
import asyncio

import numpy as np
import tensors
from coreai.authoring import AIModelAsset
from decoder import Decoder, encode_image


async def main(a):
    given, _ = tensors.load(a.input)
    names = [key.removesuffix(".ids") for key in given if key.endswith(".ids")]
    images, results = {}, {}
    if pictured := [name for name in names if f"{name}.patches" in given]:
        async with AIModelAsset.load(a.vision).executable() as model:
            function = model.load_function("main")
            for name in pictured:
                embeds = await encode_image(function, given[f"{name}.patches"])
                images[name] = (*embeds, int(given[f"{name}.image_start"][0]))
    async with AIModelAsset.load(a.decoder).executable() as model:
        function = model.load_function(a.function)
        for name in names:
            ids = given[f"{name}.ids"]
            chunks = np.pad(ids, (0, -len(ids) % a.chunk)).reshape(-1, a.chunk)
            decoder = Decoder(function, chunks.size, images.get(name))
            logits = np.concatenate([await decoder.step(chunk) for chunk in chunks])
            results[f"{name}.logits"] = logits[: len(ids)]
    tensors.save(a.output, results)


parser = argparse.ArgumentParser()
parser.add_argument("decoder"), parser.add_argument("vision")
parser.add_argument("input"), parser.add_argument("output")
parser.add_argument("--function", default="main"), parser.add_argument("--chunk", type=int, default=1)
asyncio.run(main(parser.parse_args()))
