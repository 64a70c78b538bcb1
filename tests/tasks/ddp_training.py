"""Trainings on two processes that `test_equivalences.py` starts; arguments: folder, names of recipes."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from tasks.trainings import train, without_void


class Counted:
    """How often gradients are reduced over processes, by a communication hook that does what DDP does."""

    def __init__(self) -> None:
        self.buckets = 0

    def __call__(self, state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.buckets += 1
        tensor = bucket.buffer().div_(dist.get_world_size())
        future = dist.all_reduce(tensor, async_op=True).get_future()
        return future.then(lambda done: done.value()[0])


def main(folder: Path, recipes: list[str]) -> None:
    from lightning.pytorch.strategies import DDPStrategy

    torch.set_num_threads(1)
    reduced = {}
    for recipe in ("standard", *recipes):
        counted = Counted()
        strategy = DDPStrategy(ddp_comm_hook=counted)
        task, trainer = train(
            folder, recipe, data=without_void(2), batch_norm=False, dropout=0, devices=2, strategy=strategy
        )
        reduced[recipe] = counted.buckets
        if trainer.is_global_zero:
            torch.save(torch.cat([p.detach().flatten() for p in task.parameters()]), folder / f"{recipe}.pt")
            (folder / "all_reduces.json").write_text(json.dumps(reduced))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
