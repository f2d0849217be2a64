"""Exported bundles through Core AI's runtime: the vision encoder, and the decoder with its cache."""

import numpy as np
from coreai.runtime import NDArray

TEXT_ONLY = 1 << 30  # where the rope shift starts when there is no image: never


async def encode_image(function, patches):
    """`image_embeds` [N, h] and `deepstack_embeds` [3N, h] of `patches` [4N, 1536], all f16."""
    out = await function({"patches": NDArray(patches)})
    return out["image_embeds"].numpy().copy(), out["deepstack_embeds"].numpy().copy()


class Decoder:
    """A loaded function of a decoder, its inputs that stay the same, and its cache.

    `image` is None, or the two arrays that `encode_image` gives with the id index at which the
    image starts. `capacity` is how many tokens the cache has room for.
    """

    def __init__(self, function, capacity, image=None):
        self.function = function
        desc = function.desc
        if image is None:
            shape = lambda n: desc.input_descriptor(n).shape
            embeds, deep = (np.zeros(shape(n), np.float16) for n in ("image_embeds", "deepstack_embeds"))
            start, amount = TEXT_ONLY, 0
        else:
            embeds, deep, first = image
            tokens = len(embeds)
            start, amount = first + tokens, tokens - round(tokens**0.5)
        self.inputs = {
            "image_embeds": NDArray(embeds),
            "deepstack_embeds": NDArray(deep),
            "rope_shift_start": NDArray(np.array([start], np.int32)),
            "rope_shift_amount": NDArray(np.array([amount], np.int32)),
        }
        self.state = {}
        for n in desc.state_names:
            shape = [capacity if d < 0 else d for d in desc.state_descriptor(n).shape]
            self.state[n] = NDArray(np.zeros(shape, np.float16))
        self.seen = 0

    async def step(self, ids):
        """Logits [S, V] of the next `ids` [S], as f16."""
        self.seen += len(ids)
        out = await self.function(
            {
                "input_ids": NDArray(np.asarray(ids, np.int32)[None]),
                "position_ids": NDArray(np.arange(self.seen, dtype=np.int32)[None]),
                **self.inputs,
            },
            state=self.state,
        )
        return out["logits"].numpy()[0].copy()
