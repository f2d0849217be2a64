"""What an asset says, without the order in which it says it: fingerprints as JSON on standard output.

    python fingerprint.py [--checkpoint FOLDER] ASSET.aimodel...

Needs coreai-core, whose library reads the asset; nothing of this repository does. Two assets with the
same fingerprint hold the same functions, the same operations on the same values, and the same constants,
to the bit. What it does not see: the order of operations that do not use each other's results, the names
of composite graphs and of resources, and source locations. The published recipe gives the former two at
random.

One object an asset, under its file's name without the extension:

    functions   names, dtypes and shapes of inputs, states and outputs (-1: known at run time)
    operations  how often Core AI's library counts each operation
    resources   how many blobs there are, and their bytes together
    constants   by type: how many, and a digest of their values
    kinds       by operation: how many in the graphs' bodies, and a digest of their attributes, their
                operands' and results' types, and their regions
    dataflow    a digest of each function, and of the whole: each operation hashed with the operations that
                its operands come from

The first five are there to say what differs; `dataflow` alone tells whether something does. With
--checkpoint, `checkpoint` is SHA-256 over the checkpoint's weight files in order of their names.
"""

import argparse
import asyncio
import collections
import hashlib
import json
import re
from pathlib import Path

from coreai._compiler.ir import Module
from coreai.authoring import AIModelAsset
from coreai.authoring.context import Context

CONSTANT = "aicode.primitive.constant_v1"
SHORT = 12  # hex digits of digests that only point at a difference


def digest(value):
    """Of strings in tuples and lists, nested; Python writes such a value in one way only."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


def brief(digests):
    """Of a multiset of digests: how many, and a short digest."""
    return f"{len(digests)} {digest(sorted(digests))[:SHORT]}"


def short(type_text):
    """A type as a person writes it: `[1, ?] float16`."""
    text = type_text.replace("-9223372036854775808", "?")
    text = re.sub(r"!aicode\.tensor_v1<(?:(\[[^]]*\]) : )?(.*)>$", r"\1 \2", text)
    return re.sub(r"!aicode\.(\w+?)_v1\b", r"\1", text).strip()


class Stored:
    """The graphs of one asset as they are stored: operations in their generic form."""

    def __init__(self, folder):
        context = Context()._mlir_context
        # The stored dialect is for files only; without its operations, they are read generically.
        context.allow_unregistered_dialects = True
        self.module = Module.parse((folder / "main.mlirb").read_bytes(), context)
        # Blobs are at the end of the text form, as hex digits, four bytes of alignment in front.
        text = self.module.operation.get_asm()
        _, _, blobs = text.rpartition("{-#")
        self.blobs = {}
        for line in blobs.splitlines():
            name, found, digits = line.strip().partition(': "0x')
            if found:
                content = bytes.fromhex(digits.rstrip('",'))[4:]
                self.blobs[name.strip('"')] = (hashlib.sha256(content).hexdigest(), len(content))
        self.graphs = {}  # digests of the composite graphs, by name
        self.constants = collections.defaultdict(list)  # digests, by type
        self.kinds = collections.defaultdict(list)  # digests, by operation
        self.dataflow = {}
        [asset] = self.module.body.operations
        self.dataflow["asset"] = self.operation(asset.operation, {}, 0)

    def attributes(self, op):
        """Names and values, with content instead of names of blobs and graphs."""
        found = []
        for attribute in op.attributes:
            name = getattr(attribute, "name", attribute)
            text = str(op.attributes[name])
            text = re.sub(r'dense_resource<"?([^">]*)"?>', lambda m: f"dense_resource<{self.blobs[m[1]][0]}>", text)
            text = re.sub(r"symbol_ref_v1<([^<>]*)>", lambda m: f"symbol_ref_v1<{self.graphs[m[1]]}>", text)
            found.append((name, text))
        return sorted(found)

    def operation(self, op, values, depth):
        """The digest of an operation with all that it depends on. Depth 0 is the asset, 1 a graph, 2 what
        a graph does, more than that what a region spells out."""
        attributes = self.attributes(op)
        graph = None
        if depth == 1:
            stored = dict(attributes)
            graph = re.fullmatch(r'.*string<"(.*)">', stored["name"])[1]
            private = not stored["isPrivate"].endswith(" 0>")
            if private:
                attributes = [pair for pair in attributes if pair[0] != "name"]
        regions = [self.region(region, values, depth + 1) for region in op.regions]
        results = [str(result.type) for result in op.results]
        own = (op.name, attributes, [str(operand.type) for operand in op.operands], results, regions)
        flow = digest((own, [values[operand] for operand in op.operands]))
        for index, result in enumerate(op.results):
            values[result] = f"{flow} {index}"
        if op.name == CONSTANT:
            self.constants[short(results[0])].append(digest(attributes))
        elif depth in (1, 2):
            self.kinds[op.name.removeprefix("aicode.")].append(digest(own))
        if graph:
            (self.graphs if private else self.dataflow)[graph] = flow
        return flow

    def region(self, region, values, depth):
        found = []
        for block in region.blocks:
            for index, argument in enumerate(block.arguments):
                values[argument] = f"argument {depth} {index}"
            types = [str(argument.type) for argument in block.arguments]
            found.append((types, sorted(self.operation(op.operation, values, depth) for op in block.operations)))
        return found


def signature(names, descriptor):
    return {name: f"{list(descriptor(name).shape)} {descriptor(name).dtype}" for name in names}


async def fingerprint(folder):
    asset = AIModelAsset.load(folder)
    functions = {}
    async with asset.executable() as model:
        for name in model.function_names:
            desc = model.load_function(name).desc
            functions[name] = {
                "inputs": signature(desc.input_names, desc.input_descriptor),
                "states": signature(desc.state_names, desc.state_descriptor),
                "outputs": signature(desc.output_names, desc.output_descriptor),
            }
    stored = Stored(folder)
    return {
        "functions": functions,
        "operations": dict(sorted(asset.summary().operation_distribution)),
        "resources": f"{len(stored.blobs)} {sum(size for _, size in stored.blobs.values())}",
        "constants": {kind: brief(found) for kind, found in sorted(stored.constants.items())},
        "kinds": {kind: brief(found) for kind, found in sorted(stored.kinds.items())},
        "dataflow": stored.dataflow,
    }


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("assets", nargs="+", type=Path)
    args = parser.parse_args()
    said = {}
    if args.checkpoint:
        weights = hashlib.sha256()
        for part in sorted(args.checkpoint.glob("*.safetensors")):
            weights.update(part.read_bytes())
        said["checkpoint"] = weights.hexdigest()
    said["assets"] = {asset.stem: await fingerprint(asset) for asset in args.assets}
    print(json.dumps(said, indent=1))


asyncio.run(main())
