"""What a training step of each recipe costs, in clean training steps of the same network.

A step is loading a batch (one loader per side, the same for both), the attack, forward, backward and optimiser step.
Clean steps and those of the recipe run in turn. The goal for PGD-AT with K steps is 0.85 K + 1.2.

    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.cost
    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.cost --recipes '[PGD-AT 2, TRADES 2]' --threads 2
"""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.camvid import NetworkName, reference_network
from benchmarks.choice import check_chosen
from benchmarks.pairs import compare
from segrobust.attacks import KLPGD, PGD, RSFGSM, LagrangianFMN, SegPGD, Untargeted
from segrobust.data import CamVid, TrainTransform
from segrobust.tasks import AdversarialTask, MinimalNormTask, SegmentationTask, TRADESTask

SIZE = (192, 256)
EPS = 4 / 255


def _pgd_at(num_steps: int, clean_fraction: float = 0) -> Callable[[nn.Module], SegmentationTask]:
    attack = PGD(num_steps=num_steps, eps=EPS, step_size=0.01, random_start=True)
    return lambda network: AdversarialTask(network, attack=attack, clean_fraction=clean_fraction)


RECIPES: dict[str, Callable[[nn.Module], SegmentationTask]] = {
    "PGD-AT 1": _pgd_at(1),
    "PGD-AT 2": _pgd_at(2),
    "PGD-AT 3": _pgd_at(3),
    "PGD-AT 5": _pgd_at(5),
    "half/half 2": _pgd_at(2, clean_fraction=0.5),
    "half/half 3": _pgd_at(3, clean_fraction=0.5),
    "SegPGD-AT 2": lambda network: AdversarialTask(network, attack=SegPGD(num_steps=2, eps=EPS, step_size=0.01)),
    "FGSM-RS": lambda network: AdversarialTask(network, attack=RSFGSM(eps=EPS)),
    "TRADES 2": lambda network: TRADESTask(network, attack=KLPGD(num_steps=2, eps=EPS, step_size=0.01)),
    "minimal norm 4": lambda network: MinimalNormTask(
        network, largest_eps=EPS, attack=LagrangianFMN(num_passes=4, criterion=Untargeted(apsr=0.5))
    ),
}


def main(
    network: NetworkName = "camvid_standard",
    recipes: tuple[str, ...] = tuple(RECIPES),
    batch_size: int = 8,
    pairs: int = 15,
    threads: int = 2,
) -> None:
    """Prints a table of ratios.

    Args:
        network: reference network that goes on training.
        recipes: names of recipes.
        batch_size: images per step.
        pairs: pairs of steps that count.
        threads: threads of torch.
    """
    check_chosen(recipes, RECIPES)
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", message="You are trying to `self.log")  # steps run without a trainer
    print("| recipe | step / clean step | goal |\n|---|---|---|")
    for name in recipes:
        clean = _stepper(SegmentationTask(_trained(network)), batch_size)
        attacked = _stepper(RECIPES[name](_trained(network)), batch_size)
        ratio = compare(attacked, clean, pairs=pairs, warmup=2)
        steps = int(name.removeprefix("PGD-AT ")) if name.startswith("PGD-AT ") else None
        print(f"| {name} | {ratio} | {'' if steps is None else f'{0.85 * steps + 1.2:.2f}'} |", flush=True)


def _trained(name: str) -> nn.Module:
    return copy.deepcopy(reference_network(name)).train().requires_grad_()


def _stepper(task: SegmentationTask, batch_size: int) -> Callable[[], None]:
    """One training step, without Lightning's loop around it."""
    batches = _batches(batch_size)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-5)

    def step() -> None:
        batch = next(batches)
        if isinstance(task, AdversarialTask):
            num_clean = int(task.clean_fraction * batch_size)
            attacked = task.perturb({key: value[num_clean:] for key, value in batch.items()})
            loss = task.losses(batch, torch.cat((batch["image"][:num_clean], attacked)), num_clean).total
        else:
            loss = task.loss(task(batch["image"]), batch["mask"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _batches(batch_size: int) -> Iterator[dict[str, Tensor]]:
    train = CamVid(split="train", size=SIZE, transform=TrainTransform(size=SIZE, scale=(0.75, 1.75)))
    loader = DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))


if __name__ == "__main__":
    auto_cli(main)
