"""Half/half training that only seems robust, on synthetic images.

Each class of `ColorsAndStripes` has a noisy colour, which predicts the class of most blocks, and stripes of amplitude
4/255, which predict it for all blocks but can be erased within the radius. A network trained on half clean batches can
use both: the stripes in clean images, and in perturbed ones the trace of the few steps of its own attack. Other attacks
leave another trace. The same network trained on perturbed images only can use the colours for both.

Both are trained by `AdversarialTask`, three steps of a third of the radius from the image itself, as is the baseline
of DDC-AT (Xu, Zhao and Jia, ICCV 2021); then the number of steps grows, up to SEA (Croce, Singh and Hein, ECCV 2024).

    python -m benchmarks.adversarial_training.half_half
"""

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean

import numpy as np
import torch
from jsonargparse import auto_cli
from lightning.pytorch import Trainer, seed_everything
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

import segrobust
from benchmarks.adversarial_training.cards import COLORS
from benchmarks.stored import ResultFile
from segrobust.attacks import PGD, SEA
from segrobust.data import SegmentationDataModule, SegmentationDataset
from segrobust.data.segmentation_dataset import Pixels
from segrobust.label_space import LabelSpace
from segrobust.networks import Normalized
from segrobust.tasks import AdversarialTask, SegmentationTask

RESULTS = Path(__file__).parents[1] / "results" / "half_half.jsonl"
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "half_half.png"

EPS = 16 / 255
OWN_STEPS = 3
STEPS = (1, 3, 10, 30, 100)
CLEAN_EPOCHS, EPOCHS = 6, 50
WIDTH, DEPTH = 32, 4
FRACTIONS = {"half/half": 0.5, "PGD-AT": 0.0}
BLOCK, BLOCKS = 8, (3, 4)
COLOR, VARIATION, STRIPES, NOISE = 51, 31, 4, 2.5
"""In 1/255: a class's excess in its channel, its standard deviation by block, height of the stripes, noise by pixel."""


class ColorsAndStripes(SegmentationDataset):
    """Blocks of three classes: a channel that is brighter on the average, and horizontal, vertical or crossed stripes.

    Args:
        num_images: how many.
        seed: of all that is random.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        space = LabelSpace(names=("rows", "columns", "cross"), palette=((200, 80, 80), (80, 200, 80), (80, 80, 200)))
        names = tuple(f"{seed}_{i:04d}" for i in range(num_images))
        super().__init__(label_space=space, names=names, transform=None)
        self.seed = seed

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Draws one image of 24x32."""
        rng = np.random.default_rng([self.seed, index])
        blocks = rng.integers(3, size=BLOCKS)
        colors = 128 + COLOR * (np.eye(3)[blocks] - 1 / 3) + VARIATION * rng.standard_normal((*BLOCKS, 3))
        mask = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)
        color = colors.repeat(BLOCK, 0).repeat(BLOCK, 1)
        row, column = np.indices(mask.shape)
        stripes = np.choose(mask, (row % 2, column % 2, (row + column) % 2)) * 2 - 1
        image = color + STRIPES * stripes[..., None] + NOISE * rng.standard_normal(color.shape)
        return image.round().clip(0, 255).astype(np.uint8), mask.astype(np.uint8)

    def content(self) -> dict[str, object]:
        """The seed; the rest is constant."""
        return {"seed": self.seed}

    def describe(self) -> str:
        """One line."""
        return f"colours and stripes, {len(self)} images, 3 classes"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a network still gets right at the radius, in percent.

    Attributes:
        recipe: one of `FRACTIONS`.
        seed: of the first weights and the order of images.
        clean: share of the pixels of clean images.
        by_steps: share of the pixels under PGD with `STEPS`; three are those of the training.
        worst: share of the pixels under the worst of these and SEA, chosen for each image.
        worst_miou: mIoU^D under the same, chosen greedily.
    """

    recipe: str
    seed: int
    clean: float
    by_steps: tuple[float, ...]
    worst: float
    worst_miou: float


def layers() -> nn.Module:
    """Four 3x3 convolutions at full resolution, so that what single pixels hold is not lost."""
    widths = (3, *[WIDTH] * DEPTH)
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        for a, b in itertools.pairwise(widths)
    ]
    return Normalized(nn.Sequential(*blocks, nn.Conv2d(WIDTH, 3, 1)))


def own_attack() -> PGD:
    """What both recipes train with."""
    return PGD(num_steps=OWN_STEPS, eps=EPS, step_size=EPS / OWN_STEPS)


def fit(task: SegmentationTask, epochs: int) -> None:
    """Trains on 256 images in batches of eight."""
    data = SegmentationDataModule(train=ColorsAndStripes(256, 0), val=ColorsAndStripes(8, 2), num_workers=0)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        ).fit(task, data)


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of all trainings."""
    return torch.optim.Adam(parameters, lr=2e-3)


def measure(recipe: str, seed: int) -> Run:
    """Trains a network on clean images and then by one recipe, and attacks it on 32 other images."""
    seed_everything(seed, verbose=False)
    network = layers()
    fit(SegmentationTask(network, optimizer=adam), CLEAN_EPOCHS)
    task = AdversarialTask(network, attack=own_attack(), clean_fraction=FRACTIONS[recipe], optimizer=adam)
    fit(task, EPOCHS)
    by_steps = {f"pgd_{n}": own_attack() if n == OWN_STEPS else PGD(num_steps=n, eps=EPS) for n in STEPS}
    summary = segrobust.evaluate(
        network,
        ColorsAndStripes(32, 1),
        attacks={**by_steps, "sea": SEA(num_steps=100, eps=EPS)},
        eps=(EPS,),
        batch_size=32,
        checks="off",
        progress=False,
    ).summary
    assert summary.clean is not None, "the images have valid pixels"
    accuracy = {attack.attack: 100 * attack.scores[0].accuracy for attack in summary.fixed_budget}
    (worst,) = (case.scores[0] for case in summary.worst_case)
    return Run(
        recipe=recipe,
        seed=seed,
        clean=100 * summary.clean.accuracy,
        by_steps=tuple(accuracy[name] for name in by_steps),
        worst=100 * worst.accuracy,
        worst_miou=100 * worst.miou,
    )


def table(runs: Sequence[Run]) -> str:
    """A row per recipe in Markdown: means over seeds, and ranges in brackets."""
    lines = [
        f"| recipe | seeds | clean | PGD, its own {OWN_STEPS} steps | PGD, {STEPS[-1]} steps | all and SEA "
        "| mIoU^D, all and SEA |",
        "|" + "---|" * 7,
    ]
    for recipe in FRACTIONS:
        group = [run for run in runs if run.recipe == recipe]
        columns = [(r.clean, r.by_steps[STEPS.index(OWN_STEPS)], r.by_steps[-1], r.worst, r.worst_miou) for r in group]
        cells = [f"{mean(v):.1f} [{min(v):.1f}, {max(v):.1f}]" for v in zip(*columns, strict=True)]
        lines += [f"| {recipe} | {len(group)} | {' | '.join(cells)} |"] if group else []
    return "\n".join(lines)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Accuracy against the number of steps, a line per network, and an example image."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    example, axes = figure.subplots(1, 2, width_ratios=(1, 1.7))
    example.imshow(ColorsAndStripes(1, 1).load(0)[0])
    example.set_axis_off()
    example.set_title("colours vary, stripes of 4/255 do not", fontsize=10, loc="left")
    places = range(len(STEPS) + 2)
    for recipe, color in zip(FRACTIONS, COLORS, strict=False):
        for i, run in enumerate(run for run in runs if run.recipe == recipe):
            values = (run.clean, *run.by_steps, run.worst)
            axes.plot(places, values, "o-", color=color, markersize=4, alpha=0.8, label=None if i else recipe)
    axes.axvline(1 + STEPS.index(OWN_STEPS), color="0.7", linestyle=":", linewidth=1)
    axes.set_xticks(places, ["clean", *map(str, STEPS), "all, SEA"])
    axes.set_xlabel("steps of PGD at 16/255  (dotted: the attack of the training)")
    axes.set_title("pixels still right, %", fontsize=10, loc="left")
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(
    seeds: tuple[int, ...] = (0, 1, 2), threads: int = 1, results: Path = RESULTS, picture: Path = PICTURE
) -> None:
    """Trains and attacks what has no result yet, prints the table and draws the picture.

    Args:
        seeds: networks per recipe.
        threads: threads of torch.
        results: JSON lines, one per network.
        picture: where the picture goes.
    """
    torch.set_num_threads(threads)
    file = ResultFile(path=results, kind=Run, key=("recipe", "seed"))
    file.complete(((r, s) for s in seeds for r in FRACTIONS), measure, repr)
    runs = file.read()
    print(table(runs))
    draw(runs, picture)


if __name__ == "__main__":
    auto_cli(main)
