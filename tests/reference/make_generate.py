#!/usr/bin/env python3
"""Texts that generate() of `transformers` makes with the models of the parity cases: fixtures/generate-*.json.

    tests/reference/.env/bin/python tests/reference/make_generate.py [--out DIR] [--check]

Settings are drawn at random; a case is kept where float64 and float32 give the same ids (a tie decides nothing).
--check compares with what is there and writes nothing.
"""
import argparse
import json
import pathlib
import random
import sys

import torch
from safetensors import safe_open

import florenz_reference
import generation

CASES = {"bart-a": 25, "gemma-a": 25}


def read(path):
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(("weight/", "input/"))}
    weights = {key[len("weight/"):]: t for key, t in tensors.items() if key.startswith("weight/")}
    pixels, ids, start = (tensors["input/" + k] for k in ("pixels", "prompt_ids", "prompt_start"))
    samples = [(pixels[i], ids[start[i]:start[i + 1]].long()) for i in range(len(pixels))]
    return config, weights, samples


class Model:
    def __init__(self, path, dtype):
        self.config, weights, samples = read(path)
        self.model = florenz_reference.build(self.config, dtype)
        florenz_reference.load(self.model, weights)
        with torch.no_grad():
            self.enc = [self.model.encode(pixels.to(dtype)[None], prompt[None]) for pixels, prompt in samples]

    def generate(self, case):
        ids, _, score = generation.generate(self.model.logits, self.enc[case["sample"]],
                                            self.config["dec_vocab"], case["settings"], case["prefix"])[0]
        return ids, score


def draw(rng, n_samples, config):
    """max_output decoder positions and no more. Random models like to say the same id again, eos first: most
    cases forbid that."""
    prefix = [2] + [rng.randrange(3, config["dec_vocab"]) for _ in range(rng.randrange(4))]
    prefix = prefix if rng.random() < 0.6 else []
    most = rng.choice([3, 8, config["max_output"], config["max_output"]])
    most = min(most, config["max_output"] - len(prefix))
    return {"sample": rng.randrange(n_samples),
            "settings": {"beams": rng.choice([1, 4, 4]), "length_penalty": rng.choice([1.0, 1.0, 0.0, 2.0, -0.5]),
                         "early_stopping": rng.choice([False, True, "never"]),
                         "no_repeat_ngram": rng.choice([0, 2, 2, 3]),
                         "min_tokens": rng.choice([0, 2, most // 2, most]), "max_tokens": most},
            "prefix": prefix}


def make(path, n):
    rng = random.Random(path.name)
    models = [Model(path, dtype) for dtype in (torch.float64, torch.float32)]
    cases, dropped = [], 0
    while len(cases) < n:
        case = draw(rng, len(models[0].enc), models[0].config)
        (ids, score), (other, _) = (model.generate(case) for model in models)
        if ids == other:
            cases.append(case | {"ids": ids, "score": round(score, 6)})
        else:
            dropped += 1
    return cases, dropped


def agrees(mine, theirs):
    return len(mine) == len(theirs) and all(
        a | {"score": 0} == b | {"score": 0} and abs(a["score"] - b["score"]) < 1e-4
        for a, b in zip(mine, theirs))


def main():
    fixtures = pathlib.Path(__file__).parent / "fixtures"
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=fixtures, type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    for name, n in CASES.items():
        cases, dropped = make(fixtures / f"parity-{name}.safetensors", n)
        path = arguments.out / f"generate-{name}.json"
        print(f"{path.name}: {n} cases, {dropped} dropped, {len({str(c['ids']) for c in cases})} texts")
        if arguments.check:
            same = agrees(cases, json.loads(path.read_text())["cases"])
            failed |= not same
            print("the same" if same else "OTHER CASES than those in git")
            continue
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        path.write_text('{"model":"%s","dropped":%d,"cases":[\n%s\n]}\n' % (name, dropped, lines))
    sys.exit(failed)


if __name__ == "__main__":
    main()
