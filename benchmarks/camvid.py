"""What comparisons on CamVid have in common: reference networks, images, and one judge for all sides."""

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from segrobust.attacks import Attack
from segrobust.data import CamVid
from segrobust.networks import build_network, load_weights, read_metadata

NETWORKS = Path(__file__).parent / "networks"

NetworkName = Literal["camvid_standard", "camvid_robust"]


def reference_network(name: str) -> nn.Module:
    """A network of `benchmarks/networks`, frozen."""
    path = NETWORKS / f"{name}.safetensors"
    network = build_network(json.loads(read_metadata(path)["network"]))
    load_weights(network, path)
    return network.eval().requires_grad_(False)


def report_images(number: int) -> list[int]:
    """Positions spread over the second half of the validation set; the first half is for tuning."""
    half, total = 51, 101
    return [half + i * (total - half) // number for i in range(number)]


def report_sample(sample_id: int) -> tuple[Tensor, Tensor]:
    """Image and labels of a validation sample at 192x256, as a batch of one."""
    sample = CamVid(split="val", size=(192, 256))[sample_id]
    return sample["image"][None], sample["mask"][None]


def attack_ours(attack: Attack, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, int, int]:
    """Adversarial image, forwards and backwards."""
    result = attack(network, images, labels)
    return result.adv, int(result.num_forwards), int(result.num_backwards)


def judge(network: nn.Module, images: Tensor, labels: Tensor, adv: Tensor) -> tuple[float | None, float]:
    """l_inf norm, None unless 99 % of the valid pixels are wrong, and the share that is; by one more forward pass."""
    valid = labels != 255
    with torch.no_grad():
        wrong = int(((network(adv).argmax(1) != labels) & valid).sum())
    num_valid = int(valid.sum())
    succeeded = wrong >= num_valid - num_valid // 100
    return (adv - images).abs().max().item() if succeeded else None, wrong / num_valid
