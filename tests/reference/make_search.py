#!/usr/bin/env python3
"""Texts that generate() of `transformers` finds in small tables: fixtures/search.json.

    tests/reference/.env/bin/python tests/reference/make_search.py [--out FILE] [--check]

A table is a language model: the logits behind the ids x_0 .. x_t are (pair[x_t] + place[h_t]) / 2^18, with
h_t = (3 h_(t-1) + x_t) mod 7. Cases with ties, whose texts change with a trace of noise, are left out.
--check compares with what is there and writes nothing.
"""
import argparse
import json
import pathlib
import random
import sys

import torch

import generation

PLACES = 7


def make_table(rng, vocab):
    def number():
        return rng.randint(-2**20, 2**20)
    return {"vocab": vocab, "pair": [[number() for _ in range(vocab)] for _ in range(vocab)],
            "place": [[number() // 2 for _ in range(vocab)] for _ in range(PLACES)]}


def logits_of(table, noise=0.0):
    pair, place = (torch.tensor(table[k], dtype=torch.float64) / 2**18 for k in ("pair", "place"))

    def logits(ids, _):
        h = [torch.zeros_like(ids[:, 0])]
        for t in range(ids.shape[1]):
            h.append((3 * h[t] + ids[:, t]) % PLACES)
        weights = torch.arange(1, ids.shape[1] + 1, dtype=torch.float64).sqrt()
        trace = noise * torch.sin(100 * (ids * weights).cumsum(1))[..., None] * torch.arange(pair.shape[0])
        return pair[ids] + place[torch.stack(h[1:], 1)] + trace
    return logits


def make_case(rng, tables, forces=False):
    at = rng.randrange(len(tables))
    vocab = tables[at]["vocab"]
    most = rng.choice([1, 4, 8, 14])
    settings = {
        "beams": rng.choice([1, 2, 3, 4, 4, vocab // 2]),
        "length_penalty": rng.choice([1.0, 1.0, 0.0, 2.0, -1.0, 0.6]),
        "early_stopping": rng.choice([False, True, "never"]),
        "no_repeat_ngram": rng.choice([0, 0, 1, 2, 3]) if most < vocab - 4 else rng.choice([0, 2, 3]),
        "min_tokens": rng.choice([0, 0, min(3, most), most]),
        "max_tokens": most}
    if forces:
        settings |= rng.choice([{"forced_first": 2}, {"forced_last": generation.EOS},
                                {"forced_first": 2, "forced_last": generation.EOS}])
    prefix = [rng.randrange(2, vocab) for _ in range(rng.choice([0, 0, 1, 3]))]
    # The library fills up with texts of rows that do not live (-1e9) where forcing leaves one continuation.
    n_texts = 1 if forces else rng.choice([1, settings["beams"]])
    texts, *others = (generation.generate(logits_of(tables[at], noise), torch.zeros(1, 1, 1), vocab, settings,
                                          prefix, n_texts) for noise in (0.0, 3e-6, -3e-6))
    if any([ids for ids, *_ in texts] != [ids for ids, *_ in other] for other in others):
        return None
    return {"table": at, "settings": settings, "prefix": prefix,
            "texts": [{"ids": i, "log_prob": round(p, 6), "score": round(s, 6)} for i, p, s in texts]}


def agrees(mine, theirs):
    """Log-probabilities are rounded differently by other processors."""
    def numbers(cases):
        return [(text.pop("log_prob"), text.pop("score")) for case in cases for text in case["texts"]]
    near = all(abs(a - b) < 1e-4 * max(1, abs(b)) for mine_, theirs_ in zip(numbers(mine), numbers(theirs))
               for a, b in zip(mine_, theirs_))
    return near and mine == theirs


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=here / "fixtures" / "search.json", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(17)
    tables = [make_table(rng, vocab) for vocab in (9, 12, 16)]
    cases = []
    while len(cases) < 110:
        cases += filter(None, [make_case(rng, tables)])
    while len(cases) < 140:
        cases += filter(None, [make_case(rng, tables, forces=True)])
    if arguments.check:
        theirs = json.loads(arguments.out.read_text())
        same = theirs["tables"] == tables and agrees(cases, theirs["cases"])
        print("the same" if same else "OTHER CASES than those in git")
        sys.exit(not same)
    with arguments.out.open("w") as file:
        file.write('{"tables":%s,\n"cases":[\n' % json.dumps(tables, separators=(",", ":")))
        file.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
