"""torch.save and PyTorch's Distributed Checkpoint on the tensors that checkpoint_speed.c saves.

  checkpoint_speed.py LIST DIR ROUNDS [THREADS]

LIST: a tensor a line, its name and its axes; each is there three times, as a parameter and AdamW's two moments. What is
saved is synced to the disk, and dropped from the page cache before it is loaded. Prints rows of the Markdown table that
tests/nightly/checkpoint_speed.sh begins.
"""

import contextlib
import io
import os
import shutil
import statistics
import sys
import time
import warnings

import torch
import torch.distributed.checkpoint as dcp

KINDS = ("master", "exp_avg", "exp_avg_sq")


def make_state(path):
    state, bits = {}, torch.Generator().manual_seed(1)
    noise = torch.randn(1 << 20, generator=bits)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, *axes = line.split()
            shape = [int(n) for n in axes]
            for kind in KINDS:
                tensor = torch.empty(shape)
                flat = tensor.view(-1)
                for at in range(0, flat.numel(), noise.numel()):
                    part = flat[at : at + noise.numel()]
                    part.copy_(noise[: part.numel()])
                state[f"{kind}/{name}"] = tensor
    return state


def files_under(path):
    if os.path.isfile(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def sync(path):
    for name in files_under(path):
        with open(name, "rb") as file:
            os.fsync(file.fileno())


def forget(path):
    for name in files_under(path):
        with open(name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def clock(call):
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return time.perf_counter() - begin


def time_torch(state, path):
    def save():
        torch.save(state, path)
        sync(path)

    saved = clock(save)
    forget(path)
    marks = {key: state[key].view(-1)[-1].item() for key in state}
    state.clear()  # the memory is for the tensors that torch.load makes
    loaded = clock(lambda: state.update(torch.load(path, weights_only=True)))
    assert marks == {key: state[key].view(-1)[-1].item() for key in state}
    os.remove(path)
    return saved, loaded


def time_dcp(state, path, threads):
    writer = dcp.FileSystemWriter(path, thread_count=threads, sync_files=True)
    saved = clock(lambda: dcp.save(state, storage_writer=writer, no_dist=True))
    forget(path)
    marks = {key: state[key].view(-1)[-1].item() for key in state}
    for tensor in state.values():
        tensor.zero_()
    loaded = clock(lambda: dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True))
    assert marks == {key: state[key].view(-1)[-1].item() for key in state}
    shutil.rmtree(path)
    return saved, loaded


def print_row(name, seconds, total):
    median = statistics.median(seconds)
    print(f"| {name} | {median:.2f} | {min(seconds):.2f} | {max(seconds):.2f} | {1e-9 * total / median:.2f} | |")


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    path, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    threads = int(sys.argv[4]) if len(sys.argv) == 5 else 1
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    torch.set_num_threads(threads)
    state = make_state(path)
    total = sum(4 * tensor.numel() for tensor in state.values())
    times = {"torch.save": [], "torch.load": [], "dcp.save": [], "dcp.load": []}
    for _ in range(rounds):
        for name, (saved, loaded) in (
            ("torch", time_torch(state, os.path.join(folder, "state.pt"))),
            ("dcp", time_dcp(state, os.path.join(folder, "dcp"), threads)),
        ):
            times[f"{name}.save"].append(saved)
            times[f"{name}.load"].append(loaded)
    print_row("torch.save", times["torch.save"], total)
    print_row(f"Distributed Checkpoint, saved, {threads} threads", times["dcp.save"], total)
    print_row("torch.load", times["torch.load"], total)
    print_row("Distributed Checkpoint, loaded", times["dcp.load"], total)


if __name__ == "__main__":
    main()
