"""Base of commands on a trained network: its task, its data and its weights, without a trainer."""

from pathlib import Path

import torch
from jsonargparse import Namespace
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from segrobust.cli.console import say, stop
from segrobust.cli.segrobust_cli import WEIGHTS, SegRobustCLI
from segrobust.data import SegmentationDataModule
from segrobust.data.segmentation_dataset import SegmentationDataset
from segrobust.evaluation import Distributed
from segrobust.functional.devices import require_device
from segrobust.networks import NetworkRecord, find_conflicts, load_weights, read_record
from segrobust.tasks import SegmentationTask


class NetworkCLI(SegRobustCLI):
    """Reads the experiment file that trained a network, and ignores its trainer."""

    def check_settings(self) -> None:
        """Looks for the device and the weights too.

        Raises:
            ValueError: there is no such device, or a number is too small.
            OSError: the weights are missing.
        """
        super().check_settings()
        if self.config.device is not None:
            require_device(self.config.device)
        if self.config.checkpoint is not None:
            Path(self.config.checkpoint).stat()

    def before_instantiate_classes(self) -> None:
        """Drops the settings of the trainer."""
        self.config.trainer = Namespace()  # type: ignore[no-untyped-call]

    def instantiate_trainer(self, **kwargs: object) -> None:  # type: ignore[override]
        """None: nothing is trained."""

    @property
    def checkpoint(self) -> Path:
        """File of the weights."""
        return Path(self.config_init.checkpoint or Path(self.config_init.run_dir) / WEIGHTS)

    def find_processes(self) -> Distributed:
        """This process among those that torchrun or srun started.

        Raises:
            ValueError: variables that are no numbers.
        """
        return Distributed.from_environment(stalled_after=self.config_init.stalled_after)

    def load_network(self) -> nn.Module:
        """The network of the task with its weights, whose record is compared with the data.

        Raises:
            ValueError: weights of another network, a file without weights, or classes or a normalisation that differ
                from the record of the weights.
            OSError: the file cannot be read.
        """
        if not isinstance(self.model, SegmentationTask):
            stop(f"the task must be a segrobust.tasks.SegmentationTask, got {type(self.model).__name__}")
        network, file, space = self.model.network, self.checkpoint, self.load_data().label_space
        part = self.config_init.checkpoint_part
        if file.exists() or self.config_init.checkpoint is not None:
            say(f"weights  {file}: {load_weights(network, file, part=part)}")
            conflicts = find_conflicts(network, space, weights=read_record(file), file=str(file))
        elif part is not None:
            raise ValueError(f"--checkpoint_part {part} has no effect without --checkpoint")
        else:
            if not _came_with_weights(network):
                self._require_own_weights(network)
            conflicts = find_conflicts(network, space)
        if conflicts and not self.config_init.accept_mismatch:
            raise ValueError("\n".join((*conflicts, "if this is intended, pass --accept_mismatch true")))
        for conflict in conflicts:
            say(f"warning  {conflict}")
        return network

    def _require_own_weights(self, network: nn.Module) -> None:
        """Constructs the network again under another seed: parameters that differ are random, no weights of its own.

        Raises:
            FileNotFoundError: there are such parameters, and no checkpoint.
        """
        with isolate_rng():
            seed_everything(1 + int(torch.initial_seed() % 2**31), verbose=False)
            settings = Namespace(model=self.config.model)  # type: ignore[no-untyped-call]
            again = self.parser.instantiate_classes(settings).model.network
        pairs = zip(network.named_parameters(), again.parameters(), strict=True)
        random = [name for (name, own), other in pairs if not torch.equal(own, other)]
        if random:
            shown = f"{', '.join(random[:3])}{', ...' if len(random) > 3 else ''}"
            raise FileNotFoundError(
                f"there is no {self.checkpoint}, and the network does not load weights of its own: {len(random)} of "
                f"its parameters are random ({shown}); name its weights by --checkpoint FILE"
            )
        say("weights  the network's own: they are equal when it is constructed under another seed")

    def load_data(self) -> SegmentationDataset:
        """The data set of the split.

        Raises:
            ValueError: the data module has none.
        """
        if not isinstance(self.datamodule, SegmentationDataModule):
            got = type(self.datamodule).__name__
            stop(f"the data must be a segrobust.data.SegmentationDataModule, got {got}")
        split = self.config_init.split
        dataset: SegmentationDataset | None = getattr(self.datamodule, split)
        if dataset is None:
            raise ValueError(f"the data module has no {split} data; choose another --split, or add this one")
        return dataset


def default_device(local_rank: int = 0) -> str:
    """The GPU of this process, shared if there are fewer GPUs than processes; else the CPU."""
    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _came_with_weights(network: nn.Module) -> bool:
    """Whether a network of a library already has all its weights."""
    records = (getattr(module, "record", None) for module in network.modules())
    return any(isinstance(record, NetworkRecord) and record.pretrained for record in records)
