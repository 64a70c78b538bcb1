"""A training that `test_lightning_ddp.py` starts on one and on two processes; arguments: folder, number of processes.

All processes train on the same batches, so that gradients, their mean over processes, and thus all weights are equal
to the last bit to those of one process. Validation is shared out, five images to two, so that one image comes twice.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from callbacks.tiny import TinyScenes, make_trainer, tiny_network
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD
from torch.utils.data import DataLoader, DistributedSampler

from segrobust.attacks import PGD, AlmaProx
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation
from segrobust.networks import weights_digest
from segrobust.tasks import SegmentationTask


class Shared(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TinyScenes(), batch_size=2)

    def val_dataloader(self) -> DataLoader[Any]:
        size, rank = self.trainer.world_size, self.trainer.global_rank
        scenes = TinyScenes(5, seed=3)
        return DataLoader(scenes, batch_size=2, sampler=DistributedSampler(scenes, size, rank, shuffle=False))


def main(folder: Path, devices: int) -> None:
    torch.set_num_threads(1)
    attacks = {"pgd": PGD(num_steps=3, random_start=True), "alma": AlmaProx(num_steps=10)}
    evaluation = RobustnessEvaluation(attacks, max_images=None, batch_size=1, panels=2, every_n_epochs=1)
    checkpoint = RobustCheckpoint(monitor="val/pgd/miou_at_4", save_top_k=2)
    trainer = make_trainer(
        folder,
        evaluation,
        checkpoint,
        max_epochs=3,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=CSVLogger(folder, name="", version=""),
        use_distributed_sampler=False,
    )
    task = SegmentationTask(tiny_network(dropout=0), optimizer=lambda parameters: SGD(parameters, lr=0.3))
    trainer.fit(task, Shared())
    seen = {
        "weights": weights_digest(task.network),
        "logged": {name: value.item() for name, value in trainer.callback_metrics.items()},
        "history": [measurement.to_state() for measurement in evaluation.history],
        "kept": [(Path(kept.path).name, kept.value) for kept in checkpoint.checkpoints],
    }
    (folder / f"seen{trainer.global_rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
