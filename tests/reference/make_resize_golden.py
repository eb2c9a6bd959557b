#!/usr/bin/env python3
"""Writes tests/data/golden/resize.bin: what Pillow's bicubic resize makes of small pictures.

    python3 -m venv venv && venv/bin/pip install 'pillow<12.2'
    venv/bin/python tests/reference/make_resize_golden.py tests/data/golden

resize.bin, little-endian: "FZRS", int32 number of cases, then per case int32 width, height, side,
uint32 seed, and the side*side*3 bytes of the result. Inputs are not stored: the test makes them from
the seed as noise() below does. resize.txt says which Pillow wrote it. Pillow 12.2 and later resize some
upright pictures vertically first (in 13, 17 x 31 to 13, for one), which changes the 8-bit rounding
between the passes; Florence-2 was trained before them, always horizontally first.

cmyk.jpg and cmyk.rgb: a CMYK JPEG and what Pillow's convert("RGB") makes of it; likewise alpha.png
and alpha.rgb, and palette.png and palette.rgb. grey.jpg, and lossless.webp with palette.png's picture.
"""
import struct
import sys

import PIL
from PIL import Image

CASES = [  # width, height, side
    (1, 1, 1), (1, 1, 7), (2, 1, 5), (1, 9, 4), (3, 3, 3), (5, 5, 4), (4, 4, 5), (7, 5, 16),
    (16, 16, 8), (17, 31, 13), (64, 48, 24), (48, 64, 24), (24, 100, 24), (100, 24, 24),
    (33, 33, 32), (31, 31, 32), (200, 3, 20), (3, 200, 20), (97, 89, 48), (640, 480, 48),
    (123, 457, 37), (1000, 10, 11), (500, 375, 56), (60, 45, 80),
]


def noise(width, height, seed):
    """Blocks of flat colour under noise, so that both clipping and averaging happen."""
    out = bytearray(width * height * 3)
    x = seed
    for i in range(len(out)):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        pixel = i // 3
        flat = 255 if (pixel % width // 4 + pixel // width // 4) % 2 else 0
        out[i] = flat if (x >> 16) & 3 else x >> 24
    return bytes(out)


def resize(folder):
    with open(folder + "/resize.bin", "wb") as out:
        out.write(b"FZRS" + struct.pack("<i", len(CASES)))
        for number, (width, height, side) in enumerate(CASES):
            seed = 12345 + 977 * number
            image = Image.frombytes("RGB", (width, height), noise(width, height, seed))
            result = image.resize((side, side), Image.Resampling.BICUBIC)
            out.write(struct.pack("<iiiI", width, height, side, seed) + result.tobytes())
    with open(folder + "/resize.txt", "w") as out:
        out.write("written by tests/reference/make_resize_golden.py with Pillow %s\n"
                  % PIL.__version__)


def modes(folder):
    width, height = 24, 16
    rgb = Image.frombytes("RGB", (width, height), noise(width, height, 7))
    alpha = Image.frombytes("L", (width, height), noise(width, height, 8)[::3])
    smooth = rgb.resize((6, 4)).resize((width, height), Image.Resampling.BILINEAR)
    black = Image.linear_gradient("L").resize((width, height))
    Image.merge("CMYK", (*smooth.split(), black)).save(folder + "/cmyk.jpg", quality=90)
    transparent = rgb.copy()
    transparent.putalpha(alpha)
    transparent.save(folder + "/alpha.png")
    rgb.quantize(16).save(folder + "/palette.png")
    smooth.convert("L").save(folder + "/grey.jpg", quality=90)
    Image.open(folder + "/palette.png").convert("RGB").save(folder + "/lossless.webp", lossless=True)
    for name in ("cmyk.jpg", "alpha.png", "palette.png"):
        with open(folder + "/" + name.split(".")[0] + ".rgb", "wb") as out:
            out.write(Image.open(folder + "/" + name).convert("RGB").tobytes())


if __name__ == "__main__":
    if tuple(map(int, PIL.__version__.split(".")[:2])) >= (12, 2):
        sys.exit("needs Pillow 12.1 or older (see above), this is " + PIL.__version__)
    resize(sys.argv[1])
    modes(sys.argv[1])
