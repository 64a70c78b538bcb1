"""A tiny network and data set whose results are bit-equal for any batch: float64, seeded, nothing global."""

import time

import torch
from torch import Tensor, nn

from segrobust.attacks import PGD, AlmaProx, Untargeted
from segrobust.evaluation import Plan, Record, plan_attacks

NUM_CLASSES = 4
CRITERION = Untargeted(apsr=0.9)


def toy_network(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Conv2d(3, NUM_CLASSES, 3, padding=1, dtype=dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


class ToyScenes:
    """Random images labelled by `toy_network`, a few labels wrong; image 2 is void, image 3 smaller than the others."""

    def __init__(self, num: int, delay: float = 0.0) -> None:
        self.names = tuple(f"toy_{index}" for index in range(num))
        self.delay = delay
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, object]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        time.sleep(self.delay)
        self.loaded.append(index)
        generator = torch.Generator().manual_seed(index)
        size = (6, 9) if index == 3 else (8, 9)
        image = torch.rand(3, *size, generator=generator, dtype=torch.float32)
        with torch.no_grad():
            mask = toy_network()(image[None].double()).argmax(1)[0]
        mask[:1] = torch.randint(0, NUM_CLASSES, (size[1],), generator=generator)
        mask[1, :3] = 255
        if index == 2:
            mask[:] = 255
        return {"image": image, "mask": mask, "sample_id": index}

    def fingerprint(self) -> str:
        return f"toy-{len(self)}"


def toy_plan() -> Plan:
    attacks = {
        "alma": AlmaProx(num_steps=12, step_size=0.05, criterion=CRITERION),
        "pgd": PGD(num_steps=4, random_start=True, criterion=CRITERION),
    }
    return plan_attacks(attacks, (16 / 255, 64 / 255))


def comparable(records: tuple[Record, ...] | list[Record]) -> dict[object, str]:
    """Lines by key, without the time that they took."""
    lines = {}
    for record in records:
        assert record.key not in lines, f"twice: {record.key}"
        lines[record.key] = record.to_line().replace(f'"seconds":{record.seconds!r}', '"seconds":-')
    return lines


def as_batch(item: dict[str, object], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    image, mask = item["image"], item["mask"]
    assert isinstance(image, Tensor)
    assert isinstance(mask, Tensor)
    return image[None].to(dtype), mask[None]
