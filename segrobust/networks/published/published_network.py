"""What all networks of published formats share: their preprocessing, their file format, the strict loading."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from segrobust.networks.adapted import NetworkRecord
from segrobust.networks.adapters import FullResolution
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.normalized import Normalized
from segrobust.networks.published.published_files import read_tensors, verify_sha256
from segrobust.networks.published.recognition import likely_instead
from segrobust.networks.weight_differences import describe_differences
from segrobust.networks.weight_match import COUNTERS


@dataclass(frozen=True, kw_only=True)
class Format:
    """A convention for the names in checkpoints.

    Attributes:
        name: of the code that writes such files.
        ignored: prefixes of weights that are knowingly left out, and why.
        renamed: prefixes in the file by those of the network.
    """

    name: str
    ignored: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def rename(self, name: str) -> str:
        """Gives the network's name of a weight of a file."""
        for theirs, ours in self.renamed.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name


class PublishedNetwork(nn.Module):
    """A network of a published format: images `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, K, H, W)`.

    The preprocessing of the format is inside. Loading is strict: every weight of the file is loaded or belongs to what
    the format knowingly leaves out (`format.ignored`), and every weight of the network comes from the file. Only the
    counters of batch normalisation, which no prediction depends on, may be absent.

    Args:
        core: maps preprocessed images to logits, under the names of the format.
        num_classes: number of logits of a pixel.
        normalized: the format subtracts ImageNet's mean and divides by its standard deviation.
        checkpoint: file of the weights; none if None.
        sha256: the SHA-256 of the file, or its first digits; not compared if None.

    Attributes:
        record: the number of classes, and whether the weights came with the network.
        left_out: what the file held besides the network's weights: names of weights, and of entries beside them.
    """

    format: ClassVar[Format]
    backbone_prefixes: ClassVar[Mapping[str, str]]
    """Prefixes of the backbone's weights, and what they are in a checkpoint of the backbone alone."""
    new_in_backbone: ClassVar[tuple[str, ...]] = ()
    """Prefixes, in the names of such a checkpoint, of what a classifier does not have."""

    def __init__(
        self,
        core: nn.Module,
        *,
        num_classes: int,
        normalized: bool,
        checkpoint: str | os.PathLike[str] | None = None,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        if sha256 is not None and checkpoint is None:
            raise ValueError("sha256 has no effect without a checkpoint; give both")
        full = FullResolution(core)
        self.network: NetworkWrapper = Normalized(full) if normalized else full
        self.record = NetworkRecord(
            source=self.format.name if checkpoint is None else str(checkpoint),
            num_classes=num_classes,
            pretrained=checkpoint is not None,
        )
        self.left_out: tuple[str, ...] = ()
        if checkpoint is not None:
            self.left_out = self._load(Path(checkpoint), sha256)

    @property
    def core(self) -> nn.Module:
        """The network without preprocessing, its weights named as in the format."""
        inner = self.network.network
        return inner.network if isinstance(inner, FullResolution) else inner

    def backbone_state(self) -> dict[str, Tensor]:
        """Gives the backbone's weights, not copied, by their names in a checkpoint of the backbone alone."""
        state = self.core.state_dict(keep_vars=True)
        return {
            theirs + name.removeprefix(ours): weight
            for name, weight in state.items()
            for ours, theirs in self.backbone_prefixes.items()
            if name.startswith(ours)
        }

    def forward(self, images: Tensor) -> Tensor:
        """Gives logits at the resolution of the images."""
        logits: Tensor = self.network(images)
        return logits

    def _load(self, path: Path, sha256: str | None) -> tuple[str, ...]:
        if sha256 is not None:
            verify_sha256(path, sha256)
        stored, beside = read_tensors(path)
        ignored = tuple(name for name in stored if name.startswith(tuple(self.format.ignored)))
        weights = {self.format.rename(name): weight for name, weight in stored.items() if name not in ignored}
        own = self.core.state_dict()
        faults = describe_differences(own, weights, optional=COUNTERS)
        if faults:
            likely = likely_instead(stored, "; nor does it look like another format known here")
            raise ValueError(f"{path} does not fit {type(self).__name__}: {faults}{likely}")
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)
        return (*beside, *ignored)
