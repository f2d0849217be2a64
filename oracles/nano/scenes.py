"""The drawn scenes that nano is trained on: layout, picture, caption and questions.

Everything here is integer arithmetic on a small named generator (SplitMix64), so a seed
gives the same picture and the same words on every machine and in every language that
repeats the few lines below. numpy only holds the pixels.

A scene is a 128 x 128 RGB picture: a plain background and one to three shapes, each in a
cell of its own in a 3 x 3 grid. Cell centres lie at 21, 64 and 107 pixels; a shape's centre
is moved by up to 4 pixels each way and its radius is 12 to 17 pixels.

Rasteriser: each pixel is sampled at 4 x 4 points, at odd eighths of a pixel. With (u, v) the
offset of a sample from the shape's centre in eighths of a pixel, v downwards, and R = 8 x radius:

    circle    u^2 + v^2 <= R^2
    ring      R^2 <= 4 (u^2 + v^2) <= 4 R^2
    square    20 max(|u|, |v|) <= 17 R
    diamond   |u| + |v| <= R
    triangle  |v| <= R and 2 |u| <= v + R             (apex up)
    cross     3 min(|u|, |v|) <= R and max(|u|, |v|) <= R

and a pixel with n of 16 samples inside is (n shape + (16 - n) background + 8) // 16 a channel.

Seeds: a scene belongs either to training or to the held-out scenes, by a digest of its whole
layout (one layout in eight is held out), and a seed names the n-th draw on its side:

    0 .. 10^9 - 1             training
    10^9 .. 2*10^9 - 1        held out: evaluation (evaluate.py uses the first ones)
    2*10^9 .. 3*10^9 - 1      held out: unseen scenes for later gates
    3*10^9 ..                 held out: the committed pictures

So no picture with a seed of 10^9 or more was ever trained on, whatever its seed.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 128
CENTRES = (21, 64, 107)
JITTER = 4
RADII = (12, 17)

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "orange": (245, 130, 30),
}
BACKGROUNDS = {"white": (255, 255, 255), "gray": (128, 128, 128), "black": (0, 0, 0)}
# Reading order: the order in which a caption names the shapes.
PLACES = (
    "top left", "top center", "top right",
    "middle left", "center", "middle right",
    "bottom left", "bottom center", "bottom right",
)
NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()

EVALUATION_SEEDS = 1_000_000_000
UNSEEN_SEEDS = 2_000_000_000
COMMITTED_SEEDS = 3_000_000_000

# Every one of these asks for the caption; the last two are two sentences long.
CAPTION_QUESTIONS = (
    "what is in the image ?",
    "describe the image .",
    "what do you see ?",
    "look at the image . what is in the image ?",
    "this is a drawn scene . describe the image .",
)

# The one request that is about nano itself.
ABOUT = ("what are you ?", "i am nano , a tiny model that describes simple pictures and counts .")

MASK64 = (1 << 64) - 1


def mix(z):
    """SplitMix64's output function on a 64-bit integer."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


class SplitMix64:
    """The generator behind every draw: state += golden gamma, output mix(state)."""

    def __init__(self, seed):
        self.state = seed & MASK64

    def below(self, n):
        """An integer in 0 .. n-1, from the upper 32 bits of the next output."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        return ((mix(self.state) >> 32) * n) >> 32

    def between(self, low, high):
        """An integer in low .. high, both included."""
        return low + self.below(high - low + 1)


@dataclass(frozen=True)
class Item:
    """One shape: indices into PLACES and SHAPES, a colour, a centre and a radius in pixels."""

    place: int
    shape: str
    color: str
    x: int
    y: int
    radius: int

    def words(self):
        article = "an" if self.color == "orange" else "a"
        return f"{article} {self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """A background name and one to three items in reading order."""

    background: str
    items: tuple

    def digest(self):
        """64 bits over the whole layout; decides which side of the split it is on."""
        h = tuple(BACKGROUNDS).index(self.background)
        for i in self.items:
            for value in (i.place, SHAPES.index(i.shape), tuple(COLORS).index(i.color), i.x, i.y, i.radius):
                h = mix((h * 1009 + value + 1) & MASK64)
        return h

    def held_out(self):
        return self.digest() % 8 == 0


def draw_layout(rng):
    """The next layout from a generator, on whichever side of the split it falls."""
    background = tuple(BACKGROUNDS)[rng.below(len(BACKGROUNDS))]
    free = list(range(9))
    places = sorted(free.pop(rng.below(len(free))) for _ in range(rng.between(1, 3)))
    items = []
    for place in places:
        shape = SHAPES[rng.below(len(SHAPES))]
        color = tuple(COLORS)[rng.below(len(COLORS))]
        x = CENTRES[place % 3] + rng.between(-JITTER, JITTER)
        y = CENTRES[place // 3] + rng.between(-JITTER, JITTER)
        items.append(Item(place, shape, color, x, y, rng.between(*RADII)))
    return Scene(background, tuple(items))


def scene(seed):
    """The scene of a seed, and the generator after it (for the choice of a question)."""
    rng = SplitMix64(seed)
    while True:
        s = draw_layout(rng)
        if s.held_out() == (seed >= EVALUATION_SEEDS):
            return s, rng


@lru_cache(maxsize=None)
def coverage(shape, radius):
    """Samples inside, 0 .. 16 a pixel, in the (2 radius) x (2 radius) window about the centre."""
    offsets = np.arange(-8 * radius + 1, 8 * radius, 2)
    u, v, r = offsets[None, :], offsets[:, None], 8 * radius
    au, av = np.abs(u), np.abs(v)
    if shape == "circle":
        inside = u * u + v * v <= r * r
    elif shape == "ring":
        d = 4 * (u * u + v * v)
        inside = (r * r <= d) & (d <= 4 * r * r)
    elif shape == "square":
        inside = 20 * np.maximum(au, av) <= 17 * r
    elif shape == "diamond":
        inside = au + av <= r
    elif shape == "triangle":
        inside = (av <= r) & (2 * au <= v + r)
    else:
        inside = (3 * np.minimum(au, av) <= r) & (np.maximum(au, av) <= r)
    n = 2 * radius
    return inside.reshape(n, 4, n, 4).sum(axis=(1, 3)).astype(np.int32)[:, :, None]


def draw(s):
    """The scene's picture: uint8 [128, 128, 3], RGB."""
    image = np.empty((SIDE, SIDE, 3), np.int32)
    image[:] = BACKGROUNDS[s.background]
    for i in s.items:
        n = coverage(i.shape, i.radius)
        window = image[i.y - i.radius : i.y + i.radius, i.x - i.radius : i.x + i.radius]
        window[:] = (n * np.array(COLORS[i.color], np.int32) + (16 - n) * window + 8) // 16
    return image.astype(np.uint8)


def place_words(place):
    return f"in the {PLACES[place]}"


def caption(s):
    """The answer to every question of CAPTION_QUESTIONS."""
    parts = [f"{i.words()} {place_words(i.place)}" for i in s.items]
    listed = parts[0] if len(parts) == 1 else " , ".join(parts[:-1]) + " and " + parts[-1]
    return f"the image shows {listed} on a {s.background} background ."


def question(s, rng):
    """A question about the scene and its answer; seven in ten ask for the caption."""
    kind = rng.below(10)
    if kind == 0:
        n = len(s.items)
        count = f"there is {NUMBERS[0]} shape ." if n == 1 else f"there are {NUMBERS[n - 1]} shapes ."
        return "how many shapes are there ?", count
    if kind == 1:
        return "what color is the background ?", f"the background is {s.background} ."
    if kind == 2:
        taken = {i.place: i for i in s.items}
        place = tuple(taken)[rng.below(len(taken))] if rng.below(3) else rng.below(9)
        answer = f"{taken[place].words()} ." if place in taken else "nothing ."
        return f"what is {place_words(place)} ?", answer
    return CAPTION_QUESTIONS[rng.below(len(CAPTION_QUESTIONS))], caption(s)


def text_only(rng):
    """A request without a picture and its answer: mostly counting, up or down, one to twenty."""
    if rng.below(8) == 0:
        return ABOUT
    if rng.below(4) == 0:
        first, last = 0, 19
    else:
        first = rng.below(19)
        last = rng.between(first + 1, 19)
    words = NUMBERS[first : last + 1]
    if rng.below(3) == 0:
        return f"count down from {NUMBERS[last]} to {NUMBERS[first]} .", " ".join(words[::-1]) + " ."
    return f"count from {NUMBERS[first]} to {NUMBERS[last]} .", " ".join(words) + " ."


# Seeds (counted from COMMITTED_SEEDS) and questions of the committed pictures.
COMMITTED = ((18, 0), (27, 0), (9, 0), (10, 0), (7, 1), (20, 2), (28, 3), (13, 4))


def write_committed(folder):
    """Writes the committed pictures as PNG, and scenes.json with every gate prompt and its answer."""
    prompts = []
    for seed, asked in COMMITTED:
        s, _ = scene(COMMITTED_SEEDS + seed)
        name = f"scene-{len(prompts) + 1}"
        Image.fromarray(draw(s)).save(folder / f"{name}.png")
        prompts.append({
            "name": name, "image": f"{name}.png", "prompt": CAPTION_QUESTIONS[asked],
            "answer": caption(s), "seed": COMMITTED_SEEDS + seed,
        })
    first, last = NUMBERS[0], NUMBERS[-1]
    prompts.append({"name": "count", "prompt": f"count from {first} to {last} .", "answer": " ".join(NUMBERS) + " ."})
    prompts.append({"name": "about", "prompt": ABOUT[0], "answer": ABOUT[1]})
    (folder / "scenes.json").write_text(json.dumps({"prompts": prompts}, indent=2) + "\n")


if __name__ == "__main__":
    write_committed(Path(__file__).resolve().parent / "scenes")
