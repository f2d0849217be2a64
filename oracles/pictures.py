"""Draws small picture files of many kinds, and records how Pillow and transformers see them, for the tests.

No CI job runs this script: run it by hand, and commit what it writes.

    python pictures.py    -> ../crates/picture/tests/fixtures/pictures/

Needs pillow 11.3.0, numpy and transformers 4.57.6; later versions of pillow may resize columns before rows.
`pictures.json` has, for each file, width, height and the levels of `ImageOps.exif_transpose`, pasted on
white, as RGB; `photo.patches` the levels of the patches that Qwen2VLImageProcessor makes of `photo.png`,
pasted likewise, at grid 2.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from transformers import Qwen2VLImageProcessor

OUT = Path(__file__).resolve().parent.parent / "crates/picture/tests/fixtures/pictures"
WIDTH, HEIGHT = 11, 7
SIDE = 64


def scene(width=WIDTH, height=HEIGHT):
    """Smooth, so that JPEG decoders differ little, and without any symmetry. RGBA."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    levels = [230 * x, 200 * y + 30, 255 * (1 - x) * y, 255 * np.clip(1.4 * x + 0.2 * y, 0, 1)]
    return Image.fromarray(np.stack(levels, -1).round().astype(np.uint8), "RGBA")


def png16(path, array):
    """Writes 16-bit colours, which Pillow cannot."""
    height, width, channels = array.shape
    kind = {3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def draw():
    rgba = scene()
    rgb = rgba.convert("RGB")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        rgb.save(OUT / f"turned-{orientation}.png", exif=exif)
        rgb.save(OUT / f"turned-{orientation}.jpg", exif=exif, quality=95, subsampling=0)
    rgba.save(OUT / "alpha.png")
    rgba.convert("LA").save(OUT / "gray-alpha.png")
    rgb.convert("L").save(OUT / "gray.png")
    rgb.convert("1").save(OUT / "bits.png")
    rgb.quantize(13).save(OUT / "palette.png")
    rgb.quantize(13).save(OUT / "palette-alpha.png", transparency=bytes(range(0, 256, 20)))
    rgb.save(OUT / "one-colour-clear.png", transparency=rgb.getpixel((4, 3)))
    wide = np.asarray(rgba).astype(np.uint16) * 257
    png16(OUT / "rgb-16.png", wide[..., :3] + 40)
    png16(OUT / "rgba-16.png", wide)
    rgb.convert("L").save(OUT / "gray.jpg", quality=95)
    rgb.save(OUT / "half-colour.jpg", quality=95, subsampling=2)
    rgb.save(OUT / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    cmyk = np.asarray(rgb.convert("CMYK")).copy()
    cmyk[..., 3] = 40  # Pillow leaves black at 0
    Image.fromarray(cmyk, "CMYK").save(OUT / "cmyk.jpg", quality=95, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(79, 70).save(OUT / "photo.png", exif=exif)


def upright(path):
    """The picture as RGB, turned as the camera says, on white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "CMYK":
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    draw()
    seen = {}
    for path in sorted(OUT.glob("*.png")) + sorted(OUT.glob("*.jpg")):
        image = upright(path)
        seen[path.name] = {"width": image.width, "height": image.height}
        if path.stem != "photo":
            seen[path.name]["rgb"] = image.tobytes().hex()
    processor = Qwen2VLImageProcessor(patch_size=16, min_pixels=SIDE * SIDE, max_pixels=SIDE * SIDE,
                                      image_mean=[0.5] * 3, image_std=[0.5] * 3)
    made = processor(upright(OUT / "photo.png"), return_tensors="np")
    assert made["image_grid_thw"].tolist() == [[1, SIDE // 16, SIDE // 16]], made["image_grid_thw"]
    levels = (made["pixel_values"] + 1) * 127.5
    (OUT / "photo.patches").write_bytes(levels.round().astype(np.uint8).tobytes())
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in seen.items()]
    (OUT / "pictures.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
