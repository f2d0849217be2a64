"""vlm bundles through Core AI's runtime, called as Apple's engine calls them.

Rows of all tokens of a call come from `embedding`, those of pictures are replaced in order by what
`vision` gives, and `main` gets the rows and the whole ramp of positions. Inputs, outputs and states
are bound by position. A cache that may grow begins with room for 256 tokens and doubles, filled with zeros; one
of a fixed shape stays as it is.
"""

import json

import numpy as np
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray

ROOM = 256  # tokens that a new cache has room for


class Bundle:
    """The loaded functions of a bundle in a folder; `stack` keeps its assets open."""

    @classmethod
    async def load(cls, folder, stack):
        self = cls()
        manifest = json.loads((folder / "metadata.json").read_text())
        self.image_token = manifest["vision"]["image_token_id"]
        self.context = manifest["language"]["max_context_length"]
        functions = {}
        for role, path in manifest["assets"].items():
            model = await stack.enter_async_context(AIModelAsset.load(folder / path).executable())
            named = role == "embedding" and "embed_tokens" in model.function_names
            functions[role] = model.load_function("embed_tokens" if named else "main")
        self.main, self.embedding, self.vision = (
            functions[role] for role in ("main", "embedding", "vision")
        )
        return self

    async def encode(self, pixels):
        """Rows [N, W] of a picture `pixels` [3, H, W], f32, normalized."""
        (name,) = self.vision.desc.input_names
        out = await self.vision({name: NDArray(np.asarray(pixels, np.float32)[None])})
        return out[self.vision.desc.output_names[0]].numpy()[0].copy()


class Conversation:
    """A bundle, and what one conversation has in its cache."""

    def __init__(self, bundle, room=ROOM):
        self.embedding, self.main, self.image_token = bundle.embedding, bundle.main, bundle.image_token
        self.most = bundle.context
        self.room, self.seen = min(room, self.most), 0
        self.state = {name: self._zeros(name) for name in self.main.desc.state_names}

    def _zeros(self, name):
        shape = self.main.desc.state_descriptor(name).shape
        return np.zeros([self.room if d < 0 else d for d in shape], np.float16)

    def _grow(self):
        while self.room < self.seen:
            self.room = min(2 * self.room, self.most)
        for name, old in self.state.items():
            new = self._zeros(name)
            new[:, :, :, : old.shape[3]] = old
            self.state[name] = new

    async def step(self, ids, pictures=(), is_answer=False):
        """Logits [S, V] of the next `ids` [S]; `pictures` are the rows of those among them.

        In an answer the image token is a token like any other.
        """
        ids = np.asarray(ids, np.int32)
        (name,) = self.embedding.desc.input_names
        out = await self.embedding({name: NDArray(ids[None])})
        rows = out[self.embedding.desc.output_names[0]].numpy().copy()
        places = np.flatnonzero((ids == self.image_token) & (not is_answer))
        given = np.concatenate(pictures) if len(pictures) else np.zeros((0, rows.shape[2]), rows.dtype)
        if len(places) != len(given):
            raise SystemExit(f"{len(places)} image tokens, and {len(given)} rows of pictures")
        rows[0, places] = given
        self.seen += len(ids)
        if self.seen > self.room:
            self._grow()
        inputs, positions = self.main.desc.input_names
        state = {name: NDArray(array) for name, array in self.state.items()}
        out = await self.main(
            {inputs: NDArray(rows), positions: NDArray(np.arange(self.seen, dtype=np.int32)[None])},
            state=state,
        )
        self.state = {name: array.numpy().copy() for name, array in state.items()}
        return out[self.main.desc.output_names[0]].numpy()[0].copy()
