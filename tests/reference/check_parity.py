#!/usr/bin/env python3
"""Computes all parity cases anew into DIR, holds the committed fixtures against them, then runs the C program's
test on them, whole and with the cases that are too large for the repository.

    check_parity.py --out DIR [--program TEST] [--mpiexec MPIEXEC] [CASE]...

Inputs and weights must be equal bit for bit, results to 1e-6 (make_parity.py's differences()); the C test has its
own limits and runs on one rank and on four. Exit code 1 where anything is off.
"""
import argparse
import os
import subprocess
import sys

import torch

import make_parity

LIMIT = 1e-6


def compare(case, fresh_path):
    """What is wrong with the committed fixture of the case: a list of lines."""
    (fixture, about), (fresh, fresh_about) = map(make_parity.read, (make_parity.fixture(case), fresh_path))
    wrong = [] if about == fresh_about else [f"metadata {about}, computed {fresh_about}"]
    expected = {n for n in fresh if make_parity.keep(case, n)}
    wrong += [f"{n}: is not in one of the two" for n in sorted(expected ^ set(fixture))]
    both = expected & set(fixture)
    for n in sorted(both):
        a, b = fixture[n], fresh[n]
        given = n.startswith(("input/", "weight/"))
        if a.shape != b.shape or a.dtype != b.dtype or (given and not torch.equal(a, b)):
            wrong.append(f"{n}: {a.dtype} {tuple(a.shape)}, not {b.dtype} {tuple(b.shape)}, or other values")
    if wrong:
        return wrong
    found = make_parity.differences(*({n: t[n] for n in both} for t in (fixture, fresh)))
    print(f"{case}: fixture differs by", ", ".join(f"{what} {x:.1e}" for what, (x, _) in found.items()))
    return [f"{what}, worst {n}: differs by {x:.1e}" for what, (x, n) in found.items() if not x <= LIMIT]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", metavar="DIR", required=True)
    parser.add_argument("--program", metavar="TEST")
    parser.add_argument("--mpiexec", default="mpirun")
    parser.add_argument("cases", metavar="CASE", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.out, exist_ok=True)
    wrong, paths = [], []
    for case in args.cases or make_parity.CASES:
        tensors, _ = make_parity.compute(case, torch.float64)
        paths.append(os.path.join(args.out, f"parity-{case}.safetensors"))
        make_parity.save(paths[-1], case, tensors)
        if case in make_parity.KEEP:
            wrong += [f"{case}: {line}" for line in compare(case, paths[-1])]
    sys.stdout.flush()
    for ranks in ("1", "4") if args.program else ():
        code = subprocess.run([args.mpiexec, "-n", ranks, args.program, *paths]).returncode
        if code != 0:
            wrong.append(f"{args.program} on {ranks} ranks: exit code {code}")
    for line in wrong:
        print("FAILED", line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
