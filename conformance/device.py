"""The host of docs/run-contract.md, in Core AI's own library: answers a fixture with a transcript.

    python device.py FIXTURE.json DECODER.aimodel VISION.aimodel TRANSCRIPT.json

It does what hosts/apple does on a Mac or an iPhone, and its transcript says that it comes from
neither. TRANSCRIPT must not exist.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import platform
import struct
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray
from decoder import Decoder, encode_image

VERSION = 1
SYSTEMS = {"Linux": "linux", "Darwin": "macos"}


def identify(path, expected):
    """Name and SHA-256 of the asset at `path`, which must be the one that the fixture is for."""
    with open(path / "main.mlirb", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected["sha256"]:
        sys.exit(
            f"{path}/main.mlirb has SHA-256 {found}, and the fixture is for {expected['name']} with "
            f"{expected['sha256']}; give that bundle, or export a fixture for this one"
        )
    return {"name": path.name, "sha256": found}


def digest(prompt, patches):
    """SHA-256 of what the model is given: the fixture's `input`."""
    shift = prompt["rope_shift_start"], prompt["rope_shift_amount"]
    numbers = [len(prompt["ids"]), *prompt["ids"], *shift]
    data = struct.pack(f"<{len(numbers)}i", *numbers)
    return hashlib.sha256(data + (b"" if patches is None else patches.tobytes())).hexdigest()


def read_patches(prompt):
    """The patches of a prompt's picture, [4N, 1536] f16, if it has one."""
    given = prompt["patches"]
    if given is None:
        return None
    values = np.frombuffer(base64.b64decode(given["values"], validate=True), "<f2")
    return values.reshape(given["rows"], given["columns"])


async def run(prompt, patches, decode, see):
    """One run of a prompt, from an empty cache."""
    image, vision_seconds = None, None
    if patches is not None:
        started = time.perf_counter()
        embeds, deepstack = await encode_image(see, patches)
        vision_seconds = time.perf_counter() - started
        image = (embeds, deepstack, prompt["rope_shift_start"] - len(embeds))
    count = len(prompt["expected"])
    decoder = Decoder(decode, len(prompt["ids"]) + count, image)
    for name in ("rope_shift_start", "rope_shift_amount"):
        decoder.inputs[name] = NDArray(np.array([prompt[name]], np.int32))
    started = time.perf_counter()
    for token in prompt["ids"]:
        logits = await decoder.step([token])
    tokens = [int(logits[-1].argmax())]
    first_seconds = time.perf_counter() - started
    while len(tokens) < count:
        logits = await decoder.step([tokens[-1]])
        tokens.append(int(logits[-1].argmax()))
    return {
        "tokens": tokens,
        "vision_seconds": vision_seconds,
        "first_seconds": first_seconds,
        "total_seconds": time.perf_counter() - started,
    }


async def main(a):
    fixture = json.loads(a.fixture.read_text())
    if fixture["version"] != VERSION:
        sys.exit(f"{a.fixture} has version {fixture['version']}, expected {VERSION}: export it again")
    seen = any(prompt["patches"] for prompt in fixture["prompts"])
    decoder, vision = identify(a.decoder, fixture["decoder"]), None
    if seen:
        vision = identify(a.vision, fixture["vision"])
    started = time.perf_counter()
    async with AIModelAsset.load(a.decoder).executable() as model:
        decode = model.load_function("main")
        decoder["load_seconds"] = time.perf_counter() - started
        started = time.perf_counter()
        async with AIModelAsset.load(a.vision).executable() as encoder:
            see = encoder.load_function("main")
            if seen:
                vision["load_seconds"] = time.perf_counter() - started
            prompts = []
            for prompt in fixture["prompts"]:
                patches = read_patches(prompt)
                runs = [await run(prompt, patches, decode, see) for _ in range(fixture["runs"])]
                asked = {"name": prompt["name"], "input": digest(prompt, patches)}
                prompts.append(asked | {"runs": runs})
    system = platform.system()
    transcript = {
        "version": VERSION,
        "made_with": f"coreai-core {version('coreai-core')} on {system}",
        "host": {
            "platform": SYSTEMS[system],
            "model": platform.machine(),
            "os": f"{system} {platform.release()}",
            "os_build": platform.version(),
        },
        "engine": "coreai.runtime, one token a call",
        "decoder": decoder,
        "vision": vision,
        "prompts": prompts,
    }
    with open(a.transcript, "x") as file:
        json.dump(transcript, file, indent=1)


parser = argparse.ArgumentParser()
for name in ("fixture", "decoder", "vision", "transcript"):
    parser.add_argument(name, type=Path)
asyncio.run(main(parser.parse_args()))
