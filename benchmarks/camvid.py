"""What comparisons on CamVid have in common: reference networks, images, and one judge for all sides."""

import json
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.utils.data import default_collate

from segrobust.attacks import Attack
from segrobust.data import CamVid
from segrobust.networks import load_weights, read_metadata
from segrobust.shipped import shipped_path

NETWORKS = Path(__file__).parent / "networks"

NetworkName = Literal["camvid_standard", "camvid_robust", "camvid_transformer"]


def reference_network(name: str) -> nn.Module:
    """A network of `benchmarks/networks`, frozen."""
    return _stored_network(NETWORKS / f"{name}.safetensors")


def demo_network() -> nn.Module:
    """The network that `segrobust evaluate` attacks without arguments, frozen."""
    return _stored_network(shipped_path("demo/scenes.safetensors"))


def _stored_network(path: Path) -> nn.Module:
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    specified = parser.parse_object({"network": json.loads(read_metadata(path)["network"])})
    network: nn.Module = parser.instantiate(specified).network
    load_weights(network, path)
    return network.eval().requires_grad_(False)


def report_images(number: int) -> list[int]:
    """Positions spread over the second half of the validation set; the first half is for tuning."""
    half, total = 51, 101
    return [half + i * (total - half) // number for i in range(number)]


def report_sample(*sample_ids: int) -> tuple[Tensor, Tensor]:
    """Images and labels of validation samples at 192x256, as a batch."""
    data = CamVid(split="val", size=(192, 256))
    batch = default_collate([data[sample_id] for sample_id in sample_ids])
    return batch["image"], batch["mask"]


def attack_ours(
    attack: Attack, network: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, list[int], list[int]]:
    """Adversarial images, and the forwards and backwards of each."""
    result = attack(network, images, labels)
    return result.adv, result.num_forwards.tolist(), result.num_backwards.tolist()


def judge(network: nn.Module, images: Tensor, labels: Tensor, adv: Tensor) -> tuple[float | None, float]:
    """What `judge_each` says of a batch of one."""
    ((norm, apsr),) = judge_each(network, images, labels, adv)
    return norm, apsr


def judge_each(network: nn.Module, images: Tensor, labels: Tensor, adv: Tensor) -> list[tuple[float | None, float]]:
    """l_inf norm of each, None unless 99 % of the valid pixels are wrong, and the share that is; by one more pass."""
    valid = labels != 255
    with torch.no_grad():
        wrong = ((network(adv).argmax(1) != labels) & valid).sum((1, 2)).tolist()
    norms = (adv - images).abs().amax((1, 2, 3)).tolist()
    return [
        (norm if num_wrong >= num_valid - num_valid // 100 else None, num_wrong / num_valid)
        for norm, num_wrong, num_valid in zip(norms, wrong, valid.sum((1, 2)).tolist(), strict=True)
    ]
