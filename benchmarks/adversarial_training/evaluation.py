"""Robustness of networks of several recipes: SEA, minimal norms by 300 passes, and the checks.

Images of the second half of CamVid val at 192x256, spread evenly, float32; none of them was used to choose anything.
Each network is a reference network or a folder that `train.py` wrote. An evaluation is a run directory in that
folder, which a second call continues; its numbers become a card, `benchmarks/results/adversarial_training/<name>.json`,
and the cards a table with one row per recipe and length, where seeds are averaged.

    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.evaluation --networks '[camvid_standard]'
    python -m benchmarks.adversarial_training.evaluation
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch
from jsonargparse import auto_cli

import segrobust
from benchmarks.adversarial_training.cards import STANDARD, Card, draw, read_cards, table
from benchmarks.camvid import NetworkName, reference_network, report_images
from benchmarks.suite.sea import class_pixels
from segrobust.attacks import SEA, LagrangianFMN
from segrobust.data import CamVid
from segrobust.data.segmentation_dataset import Sample
from segrobust.networks import load_weights

RESULTS = Path(__file__).parents[1] / "results" / "adversarial_training"
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "recipes.png"
SIZE = (192, 256)
EPS = 4 / 255


class ReportImages:
    """The images that are reported on."""

    def __init__(self, number: int) -> None:
        self._all = CamVid(split="val", size=SIZE)
        self._chosen = report_images(number)
        self.names = tuple(self._all.names[i] for i in self._chosen)
        self.label_space = self._all.label_space

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int, /) -> Sample:
        return self._all[self._chosen[index]]


def measure(name: str, images: int, sea_steps: int) -> Card:
    """Evaluates a reference network, or the network in the folder of a training; or goes on with it."""
    folder = Path(name)
    if name in get_args(NetworkName):
        network, folder = reference_network(name), Path("runs", name)
    else:
        network = reference_network(STANDARD)
        load_weights(network, folder / "weights.safetensors")
    directory = folder / f"sea{sea_steps}_on_{images}_images"
    report = segrobust.evaluate(
        network,
        ReportImages(images),
        attacks={
            "sea": SEA(num_steps=sea_steps, class_pixels=class_pixels(RESULTS.parent / "sea" / "class_pixels.json")),
            "lagrangian_fmn_300": LagrangianFMN(num_passes=300),
        },
        eps=(EPS,),
        batch_size=4,
        run_dir=directory,
        panels=0,
    )
    return Card.of(folder.name, report, directory, eps=EPS, sea_steps=sea_steps)


def main(
    networks: tuple[str, ...] = (),
    images: int = 8,
    sea_steps: int = 100,
    threads: int = 1,
    results: Path = RESULTS,
    picture: Path = PICTURE,
) -> None:
    """Measures networks, writes their cards, prints the table of all cards, and draws them.

    Args:
        networks: reference networks by name, or folders of trainings; none to print the table alone.
        images: how many, spread over the second half of the validation set.
        sea_steps: gradient steps of each member of SEA; the paper takes 300.
        threads: threads of torch.
        results: folder of the cards, one per network: another for other images or steps.
        picture: where the picture goes.
    """
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    for name in networks:
        card = measure(name, images, sea_steps)
        (results / f"{card.name}.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
    cards = read_cards(results)
    print(table(cards))
    if cards:
        draw(cards, picture)


if __name__ == "__main__":
    auto_cli(main)
