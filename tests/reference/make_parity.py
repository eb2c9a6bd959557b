#!/usr/bin/env python3
"""Writes the parity cases that README.md describes.

    make_parity.py [CASE]...                the committed ones into fixtures/, without what KEEP leaves out
    make_parity.py --out DIR [CASE]...      all of CASES into DIR, whole:
        parity-<case>.safetensors           as a fixture, nothing left out
        parity-<case>.float64.safetensors   the float64 run, not rounded
        parity-<case>.float32.safetensors   the same in float32; how far it is off is printed
"""
import argparse
import fnmatch
import json
import os
import zlib

import numpy
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import florenz_reference

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL_VISION = {"vision_dims": [32, 32, 32, 32], "vision_depths": [1, 1, 1, 1]}
ADAMW = {"steps": 10, "lr": 2e-3, "warmup": 3, "schedule": "cosine", "weight_decay": 0.05,
         "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "clip": 10.0}

# config: the model.* keys; samples: (prompt tokens, labels) of each. Sizes that divide nothing are on purpose.
CASES = {
    # Padded windows in all stages (14, 7, 4, 2 cells a side); outputs longer than the window.
    "gemma-a": {
        "seed": 2,
        "config": SMALL_VISION | {
            "family": "gemma", "image_size": 56, "enc_layers": 2, "enc_width": 32, "enc_heads": 4,
            "enc_ffn": 44, "enc_positions": 23, "enc_vocab": 61, "dec_layers": 3, "dec_width": 40,
            "dec_heads": 8, "dec_kv_heads": 4, "dec_head_dim": 6, "dec_ffn": 44, "dec_vocab": 131,
            "query_scalar": 9, "attn_softcap": 50, "final_softcap": 30, "sliding_window": 5,
            "rope_theta": 10000, "cross_every": 1, "max_prompt": 12, "max_output": 14},
        "samples": [(5, 9), (11, 14), (2, 2)]},
    # One key/value head under four shards, cross-attention in every second layer, tight caps, two vision heads.
    "gemma-b": {
        "config": {
            "family": "gemma", "image_size": 36, "vision_dims": [32, 32, 32, 64],
            "vision_depths": [1, 1, 1, 1], "enc_layers": 1, "enc_width": 48, "enc_heads": 4,
            "enc_ffn": 28, "enc_positions": 30, "enc_vocab": 53, "dec_layers": 4, "dec_width": 24,
            "dec_heads": 4, "dec_kv_heads": 1, "dec_head_dim": 10, "dec_ffn": 36, "dec_vocab": 97,
            "query_scalar": 10, "attn_softcap": 7, "final_softcap": 11, "sliding_window": 3,
            "rope_theta": 500, "cross_every": 2, "max_prompt": 9, "max_output": 11},
        "samples": [(5, 11), (9, 6)]},
    "bart-a": {
        "config": SMALL_VISION | {
            "family": "bart", "image_size": 44, "enc_layers": 2, "enc_width": 32, "enc_heads": 4,
            "enc_ffn": 44, "enc_positions": 20, "enc_vocab": 61, "dec_layers": 2, "dec_width": 32,
            "dec_heads": 4, "dec_kv_heads": 4, "dec_head_dim": 8, "dec_ffn": 52, "dec_positions": 17,
            "dec_vocab": 127, "final_softcap": 30, "max_prompt": 12, "max_output": 14},
        "samples": [(7, 3), (2, 14), (12, 8)]},
    # No padding in the first two stages (24, 12, 6, 3), one window and four windows.
    "bart-b": {
        "config": SMALL_VISION | {
            "family": "bart", "image_size": 96, "enc_layers": 1, "enc_width": 36, "enc_heads": 6,
            "enc_ffn": 28, "enc_positions": 30, "enc_vocab": 47, "dec_layers": 3, "dec_width": 36,
            "dec_heads": 2, "dec_kv_heads": 2, "dec_head_dim": 18, "dec_ffn": 30, "dec_positions": 12,
            "dec_vocab": 89, "final_softcap": 20, "max_prompt": 10, "max_output": 9},
        "samples": [(10, 9)]},
    # Not committed: no padding in any stage (96, 48, 24, 12).
    "gemma-384": {
        "seed": 3,
        "config": {
            "family": "gemma", "image_size": 384, "vision_dims": [32, 64, 64, 96],
            "vision_depths": [1, 1, 2, 1], "enc_layers": 2, "enc_width": 64, "enc_heads": 8,
            "enc_ffn": 120, "enc_positions": 180, "enc_vocab": 509, "dec_layers": 4, "dec_width": 80,
            "dec_heads": 8, "dec_kv_heads": 2, "dec_head_dim": 16, "dec_ffn": 136, "dec_vocab": 1021,
            "query_scalar": 24, "attn_softcap": 50, "final_softcap": 30, "sliding_window": 16,
            "rope_theta": 10000, "cross_every": 1, "max_prompt": 30, "max_output": 40},
        "samples": [(30, 40), (9, 23)]},
    "bart-224": {
        "seed": 4,
        "config": {
            "family": "bart", "image_size": 224, "vision_dims": [32, 64, 96, 128],
            "vision_depths": [1, 2, 3, 1], "enc_layers": 3, "enc_width": 96, "enc_heads": 8,
            "enc_ffn": 200, "enc_positions": 100, "enc_vocab": 509, "dec_layers": 3, "dec_width": 96,
            "dec_heads": 8, "dec_kv_heads": 8, "dec_head_dim": 12, "dec_ffn": 184,
            "dec_positions": 50, "dec_vocab": 1021, "final_softcap": 30, "max_prompt": 40,
            "max_output": 40},
        "samples": [(12, 40), (40, 7), (21, 21), (2, 31)]},
}

# Of the tensors of a committed case, those that go into the repository: the first pattern that matches decides.
# Every kind of tensor is there in one case at least; what costs most are matrices of the vision tower.
WEIGHTS = [("weight/*", True), ("input/*", True), ("logits", True), ("loss", True)]
STREAMS = [("stream/vision.channel[[]0.*", True), ("stream/vision.*[[]0*", False), ("stream/*", True)]
KEEP = {
    "gemma-a": WEIGHTS + STREAMS + [
        ("grad/vision_tower.blocks.[023].*.fc?.weight", False),
        ("grad/vision_tower.convs.[23].proj.weight", False), ("grad/*", True),
        ("adamw/*.bias", True), ("adamw/*norm.weight", True), ("adamw/vision_tower.*", False),
        ("adamw/*.layers.[12].*_proj.weight", False), ("adamw/*", True)],
    "gemma-b": WEIGHTS + STREAMS + [
        ("grad/vision_tower.*.fc?.weight", False), ("grad/vision_tower.blocks.3.*", True),
        ("grad/vision_tower.*", False), ("grad/*", True), ("adamw/*", False)],
    "bart-a": WEIGHTS + STREAMS + [
        ("*/vision_tower.*", False), ("*/language_model.model.encoder.layers.*", False),
        ("grad/*", True), ("adamw/*", True)],
    "bart-b": WEIGHTS + STREAMS + [
        ("grad/vision_tower.*.fc?.weight", False), ("grad/vision_tower.blocks.0.*", True),
        ("grad/vision_tower.*", False), ("grad/*", True), ("adamw/*", False)],
}


def fixture(case):
    return os.path.join(HERE, "fixtures", f"parity-{case}.safetensors")


def keep(case, name):
    return next(kept for pattern, kept in KEEP[case] if fnmatch.fnmatchcase(name, pattern))


def normal(text, shape, std, mean=0.0):
    """Normal numbers that the text is the seed of; float64."""
    stream = numpy.random.Generator(numpy.random.Philox(key=zlib.crc32(text.encode())))
    return torch.from_numpy(mean + std * stream.standard_normal(shape))


def seed(case):
    """Of the random numbers: "seed" is there where the first one made gradients that nearly cancel."""
    return f"{case}/{CASES[case]['seed']}" if "seed" in CASES[case] else case


def weight(case, family, name, shape):
    """Larger than initial values, so that caps, gates, norms and biases matter; rounded to BF16."""
    def draw(std, mean=0.0):
        return normal(f"{seed(case)}/{name}", shape, std, mean).to(torch.bfloat16)

    rms = family == "gemma" and ".decoder." in name and name.endswith("norm.weight")
    if name.endswith("decoder.norm.weight"):
        return draw(0.3, 1.5)  # logits that feel their cap
    if name.endswith(".bias"):
        return draw(0.2)
    if name.endswith("_gate"):
        return draw(0.3, 0.7)
    if "norm" in name:
        return draw(0.3, 0.0 if rms else 1.0)
    if "embed_tokens" in name:
        wide = ".encoder." in name
        return draw(1.0 if wide else 0.5 if family == "gemma" else 1.5)
    if "embed" in name:
        return draw(0.5)
    if name == "image_projection":
        return draw(shape[0]**-0.5)
    fan_in = numpy.prod(shape[1:])
    gain = 1.1 if ".q_proj" in name or ".k_proj" in name else 0.7 if "vision" in name else 1.0
    return draw(gain * fan_in**-0.5)


def inputs(case, config, lengths):
    """input/ tensors. Id 1 in a prompt and id 0 in a label are the padding ids: a lookup of them has no gradient."""
    side, n = config["image_size"], len(lengths)
    out = {"input/pixels": normal(seed(case) + "/pixels", (n, side, side, 3), 1.0).float()}
    stream = numpy.random.Generator(numpy.random.Philox(key=zlib.crc32((seed(case) + "/ids").encode())))
    prompts, labels = [], []
    for n_prompt, n_labels in lengths:
        prompts.append([0, *stream.integers(3, config["enc_vocab"], n_prompt - 2).tolist(), 2])
        labels.append([2, *stream.integers(3, config["dec_vocab"], n_labels - 2).tolist(), 1])
    for ids, pad in ((max(prompts, key=len), 1), (max(labels, key=len), 0)):
        if len(ids) > 4:
            ids[len(ids) // 2] = pad
    for name, ids, starts in (("prompt_ids", prompts, "prompt_start"), ("labels", labels, "label_start")):
        out["input/" + name] = torch.tensor(sum(ids, []), dtype=torch.int32)
        lens = [0] + [len(i) for i in ids]
        out["input/" + starts] = torch.tensor(numpy.cumsum(lens), dtype=torch.int32)
    return out


def samples_of(tensors):
    """The samples of a case as florenz_reference.run() takes them."""
    def pieces(ids, start):
        start = tensors["input/" + start].tolist()
        return [tensors["input/" + ids][a:b].long() for a, b in zip(start, start[1:])]

    return list(zip(tensors["input/pixels"], pieces("prompt_ids", "prompt_start"),
                    pieces("labels", "label_start")))


def weights_of(tensors):
    return {n.removeprefix("weight/"): t for n, t in tensors.items() if n.startswith("weight/")}


def compute(case, dtype):
    """All tensors of a case; what is computed has this type."""
    config, lengths = CASES[case]["config"], CASES[case]["samples"]
    model = florenz_reference.build(config, dtype)
    tensors = {f"weight/{name}": weight(case, config["family"], name, shape)
               for name, shape in florenz_reference.shapes(model).items()}
    tensors |= inputs(case, config, lengths)
    florenz_reference.load(model, weights_of(tensors))
    samples = samples_of(tensors)
    result = florenz_reference.run(model, samples)
    tensors |= {f"stream/{name}": t for name, t in result["streams"].items()}
    tensors["logits"] = result["logits"]
    tensors["loss"] = result["loss"].reshape(1).double()
    tensors |= {f"grad/{name}": t for name, t in result["grads"].items()}
    change, norms = florenz_reference.with_adamw(model, samples, ADAMW)
    tensors |= {f"adamw/{name}": t for name, t in change.items()}
    return tensors, norms


def read(path):
    """{name: tensor}, metadata"""
    with safe_open(path, "pt") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, file.metadata()


def save(path, case, tensors, rounded=True):
    """Leaves a file as it is that holds the same: the library writes metadata in any order."""
    if rounded:
        tensors = {n: t.float() if t.dtype is torch.float64 and n != "loss" else t
                   for n, t in tensors.items()}
    about = {"config": json.dumps(CASES[case]["config"]), "adamw": json.dumps(ADAMW)}
    before, before_about = read(path) if os.path.exists(path) else ({}, {})
    same = about == before_about and set(before) == set(tensors) and all(
        torch.equal(before[n], t) and before[n].dtype == t.dtype for n, t in tensors.items())
    if not same:
        save_file({n: t.contiguous() for n, t in tensors.items()}, path, about)
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path) / 1e6:.2f} MB" + same * ", as before")


def groups(tensors):
    """(what, {name: tensor}) of what is computed"""
    for what in ("stream/", "logits", "loss", "grad/", "adamw/"):
        yield what.rstrip("/"), {n: t for n, t in tensors.items() if n.startswith(what)}


def differences(mine, reference):
    """{what: (worst relative difference, its tensor)}: per tensor by norm; a gradient that is nearly zero is held
    against a thousandth of the largest; all AdamW changes together."""
    out = {}
    for (what, a), (_, b) in zip(groups(mine), groups(reference)):
        off = {n: (a[n].double() - b[n].double()).norm().item() for n in a}
        size = {n: b[n].double().norm().item() for n in a}
        if not a:
            continue
        if what == "adamw":
            both = [numpy.linalg.norm(list(x.values())) for x in (off, size)]
            out[what] = (both[0] / both[1], "all")
        else:
            least = 1e-3 * max(size.values()) if what == "grad" else 0.0
            out[what] = max((off[n] / max(size[n], least, 1e-300), n) for n in a)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", metavar="DIR")
    parser.add_argument("cases", metavar="CASE", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in args.cases or (CASES if args.out else KEEP):
        tensors, norms = compute(case, torch.float64)
        if not args.out:
            kept = {n: t for n, t in tensors.items() if keep(case, n)}
            save(fixture(case), case, kept)
            continue
        os.makedirs(args.out, exist_ok=True)
        path = os.path.join(args.out, f"parity-{case}")
        single, _ = compute(case, torch.float32)
        save(path + ".safetensors", case, tensors)
        save(path + ".float64.safetensors", case, tensors, rounded=False)
        save(path + ".float32.safetensors", case, single)
        print(f"{case}: loss {tensors['loss'].item():.6g}, gradient norms "
              f"{' '.join(f'{n:.3g}' for n in norms)}; float32 differs by",
              ", ".join(f"{w} {x:.1e} ({n})" for w, (x, n) in differences(single, tensors).items()))


if __name__ == "__main__":
    main()
