"""What the preset `validation` costs on a few CamVid images, beside an epoch of clean training of the same network.

Passes of the attack and training steps run in turn, at the same resolution and batch size; a training step is loading,
forward, backward and optimiser step. What an image costs besides, its by-products and judgements, is counted as passes:
it is less, since these are forwards alone.

    SEGROBUST_CAMVID=... python -m benchmarks.minimal_norm.validation_cost
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from torch.utils.data import DataLoader, default_collate

from benchmarks.camvid import NetworkName, reference_network, report_images
from benchmarks.pairs import compare_steps
from segrobust.data import CamVid, TrainTransform
from segrobust.evaluation import preset
from segrobust.evaluation.engine.runtime_estimate import max_passes

SIZE = (192, 256)


def main(network: NetworkName = "camvid_standard", images: int = 8, threads: int = 2) -> None:
    """Prints the ratio of a pass to a training step, and that of the preset to an epoch.

    Args:
        network: reference network.
        images: attacked together, and the batch size of training.
        threads: threads of torch.
    """
    torch.set_num_threads(threads)
    attacked = reference_network(network)
    plan = preset("validation")
    attack = plan.jobs[0].attack
    val = CamVid(split="val", size=SIZE)
    batch = default_collate([val[i] for i in report_images(images)])

    train = CamVid(split="train", size=SIZE, transform=TrainTransform(size=SIZE, scale=(0.75, 1.75)))
    loader = DataLoader(train, batch_size=images, shuffle=True, drop_last=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    trained = copy.deepcopy(attacked).train().requires_grad_()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-5)

    def training_step() -> None:
        step = next(batches)
        F.cross_entropy(trained(step["image"]), step["mask"], ignore_index=255).backward()
        optimizer.step()
        optimizer.zero_grad()

    compared = compare_steps(
        lambda between: attack(attacked, batch["image"], batch["mask"], observer=lambda _: between()),
        training_step,
    )
    num_passes = (1 + sum(sum(max_passes(call)) for call in plan.attack_calls)) / 2
    num_steps = len(train) / images
    print(f"pass / training step, batches of {images}  {compared}")
    print(
        f"preset on {images} images, {num_passes:g} passes, over an epoch of {num_steps:.1f} steps: "
        f"{compared.ratio * num_passes / num_steps:.3f}"
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
