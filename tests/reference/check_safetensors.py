#!/usr/bin/env python3
"""Files that the program writes are opened by the safetensors library, and the other way.

    tests/reference/.env/bin/python tests/reference/check_safetensors.py --program PEER

PEER is the test program built from tests/checkpoint/safetensors_peer.c.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
          "U8": torch.uint8, "BOOL": torch.bool}
FLOATS = ("F64", "F32", "F16", "BF16")
WRITTEN = [("half", "F16"), ("brain \u00fc", "BF16"), ('"single"', "F32"), ("double", "F64"),
           ("scalar", "F32")]
failures = 0


def check(holds, what):
    global failures
    if not holds:
        failures += 1
        print("FAILED:", what)


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def numbers(t, shape):
    """As in safetensors_peer.c; every third is a tie for BF16, the next one for F16."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    bits = (i * 2654435761 + 40503 * t) % 2**32
    bits[0::3] = (bits[0::3] & 0xffff0000) | 0x8000
    bits[1::3] = (bits[1::3] & 0xffffe000) | 0x1000
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32).reshape(shape).copy())


def same_numbers(a, b):
    """Bit for bit, but any NaN is as good as another."""
    nan = torch.isnan(a)
    if not torch.equal(nan, torch.isnan(b)):
        return False
    zero = torch.zeros_like(a)
    return raw(torch.where(nan, zero, a)) == raw(torch.where(nan, zero, b))


def check_written(peer, folder, max_bytes, n_files):
    subprocess.run([peer, "write", str(folder), str(max_bytes)], check=True)
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    check(len(files) == n_files, f"{files} are not {n_files} files")
    tensors = {}
    for name in files:
        with safe_open(folder / name, "pt") as f:
            check(f.metadata() == {"format": "pt"}, f"metadata of {name} are {f.metadata()}")
        tensors.update(load_file(folder / name))
    if n_files > 1:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        check(set(index["weight_map"]) == set(tensors), "the index lists other tensors")
        total = sum(x.numel() * x.element_size() for x in tensors.values())
        check(index["metadata"]["total_size"] == total, "total_size is not that of the tensors")
        for name, file in index["weight_map"].items():
            with safe_open(folder / file, "pt") as f:
                check(name in f.keys(), f"{name} is not in {file}")
    check(sorted(tensors) == sorted(n for n, _ in WRITTEN), f"tensors are {sorted(tensors)}")
    for t, (name, dtype) in enumerate(WRITTEN):
        shape = () if name == "scalar" else (6, 700)
        expected = numbers(t, shape).to(DTYPES[dtype])
        check(tensors[name].dtype == DTYPES[dtype], f"{name} is {tensors[name].dtype}")
        check(tensors[name].shape == expected.shape, f"{name} has shape {tensors[name].shape}")
        check(same_numbers(tensors[name], expected), f"{name} has other numbers")


def check_read(peer, path, tensors):
    out = subprocess.run([peer, "read", str(path)], check=True, capture_output=True).stdout
    lines = [line.split("\t") for line in out.decode().splitlines()]
    check([line[0] for line in lines] == sorted(tensors), "the program lists other tensors")
    for name, dtype, shape, data, *floats in lines:
        x = tensors[name]
        check(DTYPES[dtype] == x.dtype, f"{name} is read as {dtype}")
        check(shape == "x".join(str(n) for n in x.shape), f"{name} is read with shape {shape}")
        check(bytes.fromhex(data) == raw(x), f"{name} is read with other bytes")
        if dtype in FLOATS:
            wide = np.frombuffer(bytes.fromhex(floats[0]), np.float32).reshape(tuple(x.shape))
            check(same_numbers(torch.from_numpy(wide.copy()), x.float()), f"{name} as float differs")


def model_of_every_dtype():
    tensors = {"scalar": torch.tensor(2.5), "empty": torch.zeros((0, 3))}
    for dtype, kind in DTYPES.items():
        x = numbers(len(dtype), (3, 5))
        if dtype in FLOATS:
            tensors[dtype] = x.to(kind)
        elif dtype == "BOOL":
            tensors[dtype] = x > 0
        else:
            tensors[dtype] = torch.arange(15).reshape(3, 5).mul(37).to(kind)
    return tensors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    peer = parser.parse_args().program
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        check_written(peer, scratch / "one", 2**40, 1)
        check_written(peer, scratch / "many", 30000, 4)
        tensors = model_of_every_dtype()
        single = scratch / "single"
        single.mkdir()
        save_file(tensors, single / "model.safetensors", {"format": "pt"})
        check_read(peer, single, tensors)
        sharded = scratch / "sharded"
        sharded.mkdir()
        halves = {"a.safetensors": {}, "b.safetensors": {}}
        for i, (name, x) in enumerate(tensors.items()):
            halves[list(halves)[i % 2]][name] = x
        for file, part in halves.items():
            save_file(part, sharded / file)
        index = {"weight_map": {n: file for file, part in halves.items() for n in part}}
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        check_read(peer, sharded, tensors)
        save_file({"x": torch.zeros(3, dtype=torch.float8_e4m3fn)}, scratch / "float8")
        refused = subprocess.run([peer, "read", str(scratch / "float8")], capture_output=True)
        check(refused.returncode == 65 and b"tensor x is of dtype F8_E4M3" in refused.stderr,
              f"an unknown dtype ends with {refused.returncode}: {refused.stderr}")
    print(f"safetensors: {failures} failures" if failures else "safetensors: all the same")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
