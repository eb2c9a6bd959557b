"""The table of checkpoint_stall.sh: checkpoint_stall.py FOLDER reads what {none,behind,before}-ROUND.jsonl (metrics) and
.out (the log) say there."""

import glob
import json
import re
import statistics
import sys

WARM_UP = 5  # steps that are left out
SAVED = re.compile(
    r"checkpoint of step \d+ in [0-9.]+ s \(copied in ([0-9.]+) ms, written in ([0-9.]+) s; "
    r"training was held up for ([0-9.]+) ms besides\)"
)
SKIPPED = re.compile(r"checkpoints: \d+ committed, (\d+) skipped")


def read_steps(path):
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if "loss_bits" in row][WARM_UP:]


def read_saves(paths):
    saves, n_skipped = [], 0
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            text = lines.read()
        saves += [tuple(float(number) for number in found) for found in SAVED.findall(text)]
        n_skipped += sum(int(number) for number in SKIPPED.findall(text))
    return saves, n_skipped


def spread(values):
    """Median, 99th percentile and largest."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, -(-99 * len(ordered) // 100) - 1)]
    return f"{statistics.median(ordered):.1f} / {p99:.1f} / {ordered[-1]:.1f}"


def main():
    folder = sys.argv[1]
    rates = {}
    print("| checkpoints | steps/s | of none | saved, skipped | s to write, median / 99 % / longest | ms of copying | "
          "ms held up besides |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, title in (("none", "none"), ("behind", "behind the training"), ("before", "before it goes on")):
        runs = [read_steps(path) for path in sorted(glob.glob(f"{folder}/{name}-*.jsonl"))]
        rates[name] = statistics.median(len(run) / sum(row["seconds"] for row in run) for run in runs)
        cells = ["-"] * 4
        if name != "none":
            saves, n_skipped = read_saves(sorted(glob.glob(f"{folder}/{name}-*.out")))
            if len(saves) < len(runs):
                sys.exit(f"checkpoint_stall.py: the log of the runs named {name} tells of {len(saves)} checkpoints")
            copied, written, held = zip(*saves)
            cells = [f"{len(saves)}, {n_skipped}", spread(written), spread(copied), spread(held)]
        share = 100 * rates[name] / rates["none"]
        print(f"| {title} | {rates[name]:.2f} | {share:.1f} % | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
