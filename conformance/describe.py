"""What Core AI's own library says of assets, as JSON on standard output.

    python describe.py ASSET.aimodel...

One object an asset: its path, its functions with the names, dtypes and shapes of inputs, states and
outputs (-1 is a dimension known at run time), and how often each operation occurs.
"""

import asyncio
import json
import sys

from coreai.authoring import AIModelAsset


def values(names, descriptor):
    return [{"name": n, "dtype": str(descriptor(n).dtype), "shape": list(descriptor(n).shape)} for n in names]


async def describe(path):
    asset = AIModelAsset.load(path)
    summary = asset.summary()
    functions = []
    async with asset.executable() as model:
        for name in model.function_names:
            desc = model.load_function(name).desc
            functions.append({
                "name": name,
                "inputs": values(desc.input_names, desc.input_descriptor),
                "states": values(desc.state_names, desc.state_descriptor),
                "outputs": values(desc.output_names, desc.output_descriptor),
            })
    return {"path": path, "functions": functions, "operations": dict(sorted(summary.operation_distribution))}


async def main():
    print(json.dumps([await describe(path) for path in sys.argv[1:]]))


asyncio.run(main())
