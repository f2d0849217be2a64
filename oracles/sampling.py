"""Records what transformers' warpers keep of some logits, for the tests of the sampler.

No CI job runs this script: run it by hand, and commit what it writes.

    python sampling.py    -> ../crates/engine/tests/fixtures/sampling.json

Needs transformers 4.57.6, numpy, and jax with flax: the warpers of that version for flax need no torch,
and keep what those for torch do. Temperature, then top-k, then top-p, as generate() applies them.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from transformers.generation.flax_logits_process import (
    FlaxTemperatureLogitsWarper,
    FlaxTopKLogitsWarper,
    FlaxTopPLogitsWarper,
)

OUT = Path(__file__).resolve().parent.parent / "crates/engine/tests/fixtures/sampling.json"


def record(logits, temperature, top_k, top_p):
    scores = FlaxTemperatureLogitsWarper(temperature)(None, jnp.asarray(logits)[None], 0)
    if top_k:
        scores = FlaxTopKLogitsWarper(top_k)(None, scores, 0)
    if top_p:
        scores = FlaxTopPLogitsWarper(top_p)(None, scores, 0)
    kept = np.flatnonzero(np.isfinite(np.asarray(scores[0])))
    probabilities = np.asarray(jax.nn.softmax(scores[0].astype(jnp.float64)))[kept]
    return {
        "logits": [float(x) for x in logits], "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "kept": [int(x) for x in kept], "probabilities": [round(float(x), 9) for x in probabilities],
    }


def main():
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(5)
    cases = []
    for spread in (0.5, 3.0, 9.0):
        for temperature in (0.3, 1.0, 1.7):
            for top_k, top_p in ((None, None), (5, None), (None, 0.9), (None, 0.3), (12, 0.8)):
                # Multiples of a sixteenth are exact in every type.
                logits = np.round(rng.normal(0, spread, 32) * 16) / 16
                logits = logits[np.sort(np.unique(logits, return_index=True)[1])]  # no ties
                cases.append(record(logits, temperature, top_k, top_p))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
