"""Writes width and height (u32, little-endian) and the levels of an 8-bit RGB PNG to the standard output.

Python's own zlib, so that the tests need no picture library, on Linux or on a Mac.
"""

import struct
import sys
import zlib


def chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def paeth(left, up, corner):
    return min((left, up, corner), key=lambda level: abs(left + up - corner - level))


def main(path):
    with open(path, "rb") as file:
        parts = list(chunks(file.read()))
    width, height, depth, colour = struct.unpack(">IIBB", parts[0][1][:10])
    assert (depth, colour) == (8, 2), f"{path} is not an 8-bit RGB PNG"
    data = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    stride = 3 * width
    above, levels = bytes(stride), bytearray()
    for row in range(height):
        kind, *line = data[row * (stride + 1) : (row + 1) * (stride + 1)]
        for i in range(stride):
            left, corner = (line[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            add = [0, left, above[i], (left + above[i]) // 2, paeth(left, above[i], corner)]
            line[i] = (line[i] + add[kind]) % 256
        above = line
        levels += bytes(line)
    sys.stdout.buffer.write(struct.pack("<II", width, height) + levels)


main(sys.argv[1])
