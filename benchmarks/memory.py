"""Peak memory of a few steps of ALMA-prox beside that of a bare pass, each in a process of its own.

A process loads everything, runs a small pass so that libraries have taken what they keep, reads its resident memory,
does its work, and reports how far the peak rose above. On a GPU the memory is that of tensors there.

    python -m benchmarks.memory --threads 2
    python -m benchmarks.memory --device cuda
"""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli

from benchmarks.subjects import Subject, machine, make_subject, scene
from segrobust.attacks import AlmaProx

Side = Literal["bare", "attack", "both"]


def peak_rise(side: Side, size: tuple[int, int], num_steps: int, device: str) -> float:
    """MiB that this process needs at the peak of one side, above what it holds before.

    Args:
        side: `"bare"`: passes alone; `"attack"`: the same number of steps of the attack.
        size: height and width.
        num_steps: how many.
        device: of torch.
    """
    small = make_subject("resnet18", size=(64, 64), num_classes=19, device=device)
    small.bare_pass()
    # Labels of one class: the peak of a pass that predicts them would hide what is measured.
    labels = torch.zeros(1, *size, dtype=torch.int64, device=device)
    large = Subject(small.network, scene(size).to(device), labels)
    before = resident() if device == "cpu" else torch.cuda.memory_allocated(device) / 2**20
    if side == "bare":
        for _ in range(num_steps):
            large.bare_pass()
    else:
        AlmaProx(num_steps=num_steps)(large.network, large.images, large.labels)
    peak = peak_resident() if device == "cpu" else torch.cuda.max_memory_allocated(device) / 2**20
    return peak - before


def main(
    side: Side = "both",
    size: tuple[int, int] = (1024, 2048),
    steps: int = 3,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Prints the peak of both sides and their ratio.

    Args:
        side: measure one side in this process, or both in two processes.
        size: height and width of the image.
        steps: steps of the attack, or passes; the third step has all of an attack's state.
        threads: threads of torch.
        device: of torch, such as `cuda`.
    """
    torch.set_num_threads(threads)
    if side != "both":
        print(peak_rise(side, size, steps, device))
        return
    bare, attack = (_in_own_process(name, size, steps, threads, device) for name in ("bare", "attack"))
    print(f"{machine(device, threads)}, resnet18, 19 classes, {size[0]}x{size[1]}, {steps} steps")
    print(f"bare pass {bare:.0f} MiB, AlmaProx {attack:.0f} MiB above the loaded process: ratio {attack / bare:.3f}")


def _in_own_process(side: str, size: tuple[int, int], steps: int, threads: int, device: str) -> float:
    options = [f"--side={side}", f"--size=[{size[0]},{size[1]}]", f"--steps={steps}", f"--threads={threads}"]
    options.append(f"--device={device}")
    command = [sys.executable, "-m", "benchmarks.memory", *options]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def resident() -> float:
    """MiB that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_resident() -> float:
    """Largest MiB that this process has held (Linux: kibibytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
