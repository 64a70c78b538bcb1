"""Sliding-window inference that recomputes windows, compared with stored graphs and with a pass over the whole image.

A pass is forward, cross-entropy and backward to the image. For memory each side runs in processes of its own, in turn;
the ratios are taken within rounds. For time all sides run in turn in one process, on its processor's clock.

    python -m benchmarks.tiled --part memory
    python -m benchmarks.tiled --part time
    python -m benchmarks.tiled --part attack

The last one runs ALMA-prox on one drawn scene against the network of the demo through windows,
and prints the best norm as it falls.
"""

import statistics
import subprocess
import sys
import time
from typing import Literal

import segmentation_models_pytorch as smp
import torch
from jsonargparse import auto_cli
from torch import nn

from benchmarks.memory import peak_resident, resident
from benchmarks.pairs import summarize
from benchmarks.subjects import NetworkName, Subject, make_subject, scene
from segrobust.attacks import AlmaProx
from segrobust.attacks.core.tracker import Iterate
from segrobust.data import SyntheticScenes
from segrobust.networks import FullResolution, Normalized, SlidingWindow, load_weights
from segrobust.shipped import shipped_path

Part = Literal["memory", "time", "attack"]
Side = Literal["windows", "graph", "whole"]
Size = tuple[int, int]

SIDES: tuple[Side, ...] = ("windows", "graph", "whole")
WARM = (64, 64)


def make_side(side: Side, name: NetworkName, size: Size, window: Size, stride: Size) -> Subject:
    """One side on a drawn scene, warmed by a small pass.

    Args:
        side: `"windows"` recomputes, `"graph"` stores the graphs of all windows, `"whole"` has no windows.
        name: which network.
        size: height and width of the image.
        window: height and width of a window.
        stride: rows and columns between windows.
    """
    small = make_subject(name, size=WARM, num_classes=19)
    small.bare_pass()
    network = small.network
    if side != "whole":
        network = SlidingWindow(network, window, stride, recompute=side == "windows").eval()
    # Labels of one class: the peak of a pass that predicts them would hide what is measured.
    return Subject(network, scene(size), torch.zeros(1, *size, dtype=torch.int64))


def main(
    part: Part = "memory",
    network: NetworkName = "resnet18",
    size: Size = (1024, 2048),
    window: Size = (512, 512),
    stride: Size = (341, 341),
    rounds: int = 6,
    steps: int = 30,
    side: Side | None = None,
) -> None:
    """Prints one part.

    Args:
        part: `"memory"`, `"time"` or `"attack"`.
        network: subject of the first two parts.
        size: height and width of the image.
        window: height and width of a window.
        stride: rows and columns between windows.
        rounds: processes of each side, or pairs.
        steps: steps of the attack.
        side: measures the memory of one side in this process, and prints the bare number.
    """
    torch.set_num_threads(1)
    if side is not None:
        print(_peak_of(make_side(side, network, size, window, stride)))
        return
    title = f"{size[0]}x{size[1]}, windows {window[0]}x{window[1]}, stride {stride[0]}x{stride[1]}"
    print(f"torch {torch.__version__}, one thread, {title}")
    if part == "memory":
        _print_memory(network, size, window, stride, rounds)
    elif part == "time":
        _print_time(network, size, window, stride, rounds)
    else:
        _print_attack(size, window, stride, steps)


def _print_memory(name: NetworkName, size: Size, window: Size, stride: Size, rounds: int) -> None:
    """Peaks of the sides above the loaded process."""
    options = [f"--{key}=[{a},{b}]" for key, (a, b) in (("size", size), ("window", window), ("stride", stride))]
    command = [sys.executable, "-m", "benchmarks.tiled", f"--network={name}", *options]
    peaks: dict[Side, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            done = subprocess.run([*command, f"--side={side}"], check=True, capture_output=True, text=True)
            peaks[side].append(float(done.stdout.split()[-1]))
    for side in SIDES:
        ratios = [mine / theirs for mine, theirs in zip(peaks["windows"], peaks[side], strict=True)]
        print(f"{name} {side:8}{_spread(peaks[side], 0)} MiB   windows / {side}{_spread(ratios, 3)}")


def _spread(values: list[float], digits: int) -> str:
    """Median and range."""
    return f" {statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _print_time(name: NetworkName, size: Size, window: Size, stride: Size, pairs: int) -> None:
    """Processor seconds of recomputed windows over those of the other sides, in turn; other jobs are not counted."""
    sides = {side: make_side(side, name, size, window, stride) for side in SIDES}
    times: dict[Side, list[float]] = {side: [] for side in SIDES}
    for _ in range(1 + pairs):
        for side, subject in sides.items():
            start = time.process_time()
            subject.bare_pass()
            times[side].append(time.process_time() - start)
    for side in SIDES[1:]:
        print(f"{name} windows / {side:6}", summarize(times["windows"][1:], times[side][1:]))


def _print_attack(size: Size, window: Size, stride: Size, num_steps: int) -> None:
    """A run of ALMA-prox at full resolution: the best norm so far, seconds and the peak."""
    attack = AlmaProx(num_steps=num_steps, step_size=4e-3)  # larger than the default, which is for 500 steps
    network, start, best = _scenes_network(window, stride), time.perf_counter(), float("inf")
    sample = SyntheticScenes(1, split="val", size=size)[0]
    valid = (sample["mask"] != 255).sum().item()

    def report(iterate: Iterate) -> None:
        nonlocal best
        share, norm = iterate.num_broken[0].item() / valid, iterate.norm[0].item()
        best = min(best, norm) if iterate.success[0] else best
        cost = f"{peak_resident() - before:.0f} MiB, {time.perf_counter() - start:.0f} s"
        print(
            f"iterate {iterate.step}: {share:.2%} broken, norm {255 * norm:.3f}/255, best {255 * best:.3f}/255; {cost}",
            flush=True,
        )

    small = torch.rand(1, 3, *WARM)
    attack(network, small, torch.zeros(1, *WARM, dtype=torch.int64))
    before, start = resident(), time.perf_counter()
    result = attack(network, sample["image"][None], sample["mask"][None], observer=report)
    passes = f"{result.num_forwards.item()} forwards, {result.num_backwards.item()} backwards"
    peak = f"peak {peak_resident() - before:.0f} MiB above the loaded process"
    print(f"success {result.success.item()}, norm {255 * result.norm.item():.3f}/255, {passes}, {peak}")


def _scenes_network(window: Size, stride: Size) -> nn.Module:
    """The stored network of drawn scenes, through windows."""
    fpn = smp.FPN(
        "tu-test_byobnet",
        encoder_weights=None,
        decoder_pyramid_channels=64,
        decoder_segmentation_channels=32,
        classes=9,
    )
    network = SlidingWindow(Normalized(FullResolution(fpn, stride=32)), window, stride)
    load_weights(network, shipped_path("demo/scenes.safetensors"))
    return network.eval().requires_grad_(False)


def _peak_of(subject: Subject) -> float:
    """MiB that two passes need at their peak, above what the process holds before."""
    before = resident()
    for _ in range(2):
        subject.bare_pass()
    return peak_resident() - before


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
