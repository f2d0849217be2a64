"""Runs `main` of an asset once in Core AI's runtime.

    python run_function.py ASSET.aimodel INPUT.safetensors OUTPUT.safetensors

INPUT holds a tensor for each input; it takes the shape that the function states.
"""

import asyncio
import sys

import tensors
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray


async def main(asset, source, target):
    given, _ = tensors.load(source)
    async with AIModelAsset.load(asset).executable() as model:
        function = model.load_function("main")
        shape = lambda name: function.desc.input_descriptor(name).shape
        out = await function({name: NDArray(value.reshape(shape(name))) for name, value in given.items()})
        tensors.save(target, {name: out[name].numpy().copy() for name in function.desc.output_names})


asyncio.run(main(*sys.argv[1:]))
