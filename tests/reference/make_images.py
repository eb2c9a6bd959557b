#!/usr/bin/env python3
"""Pictures of awkward sizes and kinds, and what Pillow makes of them.

    tests/reference/.env/bin/python tests/reference/make_images.py tests/data/golden/images [--check]

Writes the pictures and images.txt: a line each with name, width, height, then CRC-32C (hex) of the
decoded picture as convert("RGB") gives it, of its bicubic resize to 24, 224 and 768 pixels, and of
the 24-pixel one normalised: (x/255 - mean) / std in float32, channels last. --check makes nothing:
it recomputes the numbers from the files that are there and compares. Both ways of the public code
are held to the same bits: torchvision's Resize (training) and an image processor's resize
(inference) both call Pillow's resize with resample 3.

The resize is done in two calls, horizontally, then vertically: what one call does up to Pillow 12.1,
and so what Florence-2 was trained on. From 12.2 on one call takes pictures more than a
hundred times as high as wide the other way round, from 13 on many upright ones (333 x 500 to 224),
which rounds differently between the passes.
"""
import argparse
import io
import os
import struct
import sys
import zlib

import numpy
import PIL
from PIL import Image, features

MEAN = numpy.array([0.485, 0.456, 0.406], numpy.float32)
STD = numpy.array([0.229, 0.224, 0.225], numpy.float32)


def crc32c(data, table=[]):
    if not table:
        for i in range(256):
            for _ in range(8):
                i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
            table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---- pictures ----


def plane(width, height, seed):
    """(height, width) bytes: waves, blocks of flat colour, noise; every value occurs."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.int64)
    wave = (x * (3 + seed % 5) + y * (5 + seed % 7) + seed * 37) % 512
    wave = numpy.where(wave < 256, wave, 511 - wave)
    block = (x // 5 + y // 4 + seed) % 3
    noise = ((x * 73856093) ^ (y * 19349663) ^ (seed * 83492791)) >> 3 & 255
    return numpy.where(block == 0, wave, numpy.where(block == 1, (wave // 64) * 85, noise)).astype(numpy.uint8)


def smooth(width, height, seed):
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float64)
    value = 127.5 + 127.5 * numpy.sin(x * 6.5 / width + seed) * numpy.cos(y * 5.0 / height + seed * 0.7)
    return numpy.floor(value).astype(numpy.uint8)


def bands(make, width, height, seed, n):
    return numpy.dstack([make(width, height, seed + k) for k in range(n)])


def rgb(width, height, seed=1, make=plane):
    return Image.fromarray(bands(make, width, height, seed, 3), "RGB")


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


# ---- PNG kinds that Pillow does not write, straight from the specification ----


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, bits):
    """(height, width[, bands]) samples as PNG scan lines without filter."""
    out = b""
    for row in rows:
        row = row.reshape(-1)
        if bits == 16:
            out += b"\0" + row.astype(">u2").tobytes()
        elif bits == 8:
            out += b"\0" + row.astype(numpy.uint8).tobytes()
        else:
            flags = (row[:, None] >> numpy.arange(bits - 1, -1, -1)) & 1
            out += b"\0" + numpy.packbits(flags.reshape(-1).astype(numpy.uint8)).tobytes()
    return out


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, bits, color, interlaced=False, before=b""):
    """color: 0 grey, 2 RGB, 3 palette, 4 grey+alpha, 6 RGBA. before: chunks in front of the data."""
    height, width = samples.shape[:2]
    if interlaced:
        data = b""
        for x, y, dx, dy in ADAM7:
            part = samples[y::dy, x::dx]
            if part.size:
                data += packed(part, bits)
    else:
        data = packed(samples, bits)
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(data, 9)) +
            chunk(b"IEND", b""))


def palette_chunks(n, alpha=None):
    colors = bytes((37 * i * (k + 1) + 11 * k) % 256 for i in range(n) for k in range(3))
    out = chunk(b"PLTE", colors)
    return out + (chunk(b"tRNS", bytes(alpha)) if alpha else b"")


def wide(samples, seed):
    """16-bit samples whose low byte matters."""
    return samples.astype(numpy.int64) * 256 + (samples.astype(numpy.int64) * 7 + seed) % 256


# ---- JPEG ----


def jpeg(image, **options):
    return saved(image, "JPEG", **{"quality": 85, **options})


def without_app14(data):
    """The same without Adobe's marker: the colour transform has to be guessed."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]:]


def pictures():
    """name -> bytes"""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate: neither Pillow's convert nor the public code does
    grey = plane(37, 29, 3)
    cmyk = Image.fromarray(bands(smooth, 45, 33, 2, 4), "CMYK")
    index = plane(31, 22, 5)
    yield "one-pixel.png", saved(rgb(1, 1), "PNG")
    yield "one-pixel.jpg", jpeg(rgb(1, 1))
    yield "one-pixel.webp", saved(rgb(1, 1), "WEBP", lossless=True)
    yield "one-row.png", saved(rgb(97, 1), "PNG")
    yield "one-column.png", saved(rgb(1, 97), "PNG")
    yield "one-row.jpg", jpeg(rgb(61, 1))
    yield "one-column.jpg", jpeg(rgb(1, 61))
    yield "wide-4000x3.jpg", jpeg(rgb(4000, 3), quality=60)
    yield "tall-3x4000.png", saved(rgb(3, 4000, make=smooth), "PNG")
    yield "wide-4000x3.webp", saved(rgb(4000, 3, make=smooth), "WEBP", quality=60)
    yield "side-224.jpg", jpeg(rgb(224, 224, 4, smooth))
    yield "side-24x31.png", saved(rgb(24, 31), "PNG")
    yield "large-601x399.jpg", jpeg(rgb(601, 399, 2, smooth), quality=40)
    yield "grey.png", png(grey, 8, 0)
    yield "grey-alpha.png", png(numpy.dstack([grey, smooth(37, 29, 1)]), 8, 4)
    yield "grey-transparent.png", png(grey, 8, 0, before=chunk(b"tRNS", struct.pack(">H", 85)))
    yield "grey-1bit.png", png(grey & 1, 1, 0)
    yield "grey-1bit-transparent.png", png(grey & 1, 1, 0, before=chunk(b"tRNS", struct.pack(">H", 1)))
    yield "grey-2bit.png", png(grey & 3, 2, 0)
    yield "grey-4bit.png", png(grey & 15, 4, 0)
    yield "grey-16bit.png", png(wide(grey, 3), 16, 0)
    yield "grey-16bit-dark.png", png(wide(grey, 3) // 300, 16, 0)
    yield "grey-16bit-interlaced.png", png(wide(grey, 3) // 200, 16, 0, interlaced=True)
    yield "grey-alpha-16bit.png", png(wide(numpy.dstack([grey, smooth(37, 29, 1)]), 1), 16, 4)
    yield "grey-interlaced.png", png(grey, 8, 0, interlaced=True)
    yield "rgb-16bit.png", png(wide(bands(plane, 33, 21, 6, 3), 5), 16, 2)
    yield "rgba-16bit.png", png(wide(bands(plane, 33, 21, 6, 4), 5), 16, 6)
    yield "rgb-interlaced.png", png(bands(plane, 29, 37, 2, 3), 8, 2, interlaced=True)
    yield "rgb-transparent.png", png(bands(plane, 29, 37, 2, 3), 8, 2,
                                     before=chunk(b"tRNS", struct.pack(">HHH", 85, 85, 85)))
    yield "rgb-gamma.png", png(bands(plane, 19, 17, 2, 3), 8, 2, before=chunk(b"gAMA", struct.pack(">I", 100000)))
    yield "rgba.png", saved(Image.fromarray(bands(plane, 40, 27, 3, 4), "RGBA"), "PNG")
    yield "rgba-interlaced.png", png(bands(plane, 11, 13, 9, 4), 8, 6, interlaced=True)
    yield "palette.png", png(index, 8, 3, before=palette_chunks(256))
    yield "palette-transparent.png", png(index & 63, 8, 3, before=palette_chunks(64, range(0, 256, 4)))
    yield "palette-1bit.png", png(index & 1, 1, 3, before=palette_chunks(2))
    yield "palette-4bit-interlaced.png", png(index & 15, 4, 3, interlaced=True, before=palette_chunks(16, [0, 128]))
    yield "grey.jpg", jpeg(Image.fromarray(smooth(35, 41, 2), "L"))
    yield "cmyk.jpg", jpeg(cmyk)
    yield "cmyk-no-marker.jpg", without_app14(jpeg(cmyk))
    yield "exif-rotated.jpg", jpeg(rgb(50, 31, 2, smooth), exif=exif)
    yield "progressive.jpg", jpeg(rgb(70, 53, 3, smooth), progressive=True)
    yield "progressive-grey.jpg", jpeg(Image.fromarray(smooth(23, 47, 4), "L"), progressive=True)
    yield "4-4-4.jpg", jpeg(rgb(51, 35, 3), subsampling=0)
    yield "4-2-2.jpg", jpeg(rgb(51, 35, 3), subsampling=1)
    yield "4-2-0.jpg", jpeg(rgb(51, 35, 3), subsampling=2)
    yield "restarts.jpg", jpeg(rgb(83, 44, 5, smooth), restart_marker_blocks=2)
    yield "rgb-stored.jpg", jpeg(rgb(39, 27, 1, smooth), keep_rgb=True)
    yield "quality-1.jpg", jpeg(rgb(67, 45, 7), quality=1)
    yield "quality-100.jpg", jpeg(rgb(41, 39, 7), quality=100, subsampling=2)
    yield "lossy.webp", saved(rgb(54, 37, 4, smooth), "WEBP", quality=80)
    yield "lossy-alpha.webp", saved(Image.fromarray(bands(smooth, 45, 38, 3, 4), "RGBA"), "WEBP", quality=70)
    yield "lossless.webp", saved(rgb(43, 31, 6), "WEBP", lossless=True)
    yield "lossless-alpha.webp", saved(Image.fromarray(bands(plane, 33, 29, 3, 4), "RGBA"), "WEBP", lossless=True,
                                       exact=True)


# ---- what becomes of them ----


def resized(image, side):
    image = image.resize((side, image.height), Image.Resampling.BICUBIC)
    return image.resize((side, side), Image.Resampling.BICUBIC)


def numbers(data):
    """The line of images.txt without the name."""
    image = Image.open(io.BytesIO(data))
    image = image.convert("RGB")
    small = resized(image, 24)
    floats = (numpy.asarray(small).astype(numpy.float32) / numpy.float32(255) - MEAN) / STD
    crcs = [crc32c(image.tobytes()), crc32c(small.tobytes()), crc32c(resized(image, 224).tobytes()),
            crc32c(resized(image, 768).tobytes()), crc32c(floats.astype("<f4").tobytes())]
    return "%d %d " % image.size + " ".join("%08x" % crc for crc in crcs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    list_path = os.path.join(args.folder, "images.txt")
    if args.check:
        bad = 0
        for line in open(list_path):
            name, rest = line.rstrip("\n").split(" ", 1)
            if name == "#":
                continue
            with open(os.path.join(args.folder, name), "rb") as file:
                got = numbers(file.read())
            if got != rest:
                print("%s: recorded %s, Pillow %s gives %s" % (name, rest, PIL.__version__, got))
                bad += 1
        sys.exit("%d pictures differ" % bad if bad else 0)
    with open(list_path, "w") as out:
        out.write("# Pillow %s, libjpeg-turbo %s, libwebp %s\n" %
                  (PIL.__version__, features.version("libjpeg_turbo"), features.version("webp")))
        for name, data in pictures():
            with open(os.path.join(args.folder, name), "wb") as file:
                file.write(data)
            out.write(name + " " + numbers(data) + "\n")


if __name__ == "__main__":
    main()
