"""Which checkpoints are published: what they are, where they lie, what they were measured at."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import yaml

from segrobust.networks.published.deeplabv3plus import MMSegDeepLabV3Plus
from segrobust.networks.published.hrnet import MMSegFCNHRNet
from segrobust.networks.published.pspnet import MMSegPSPNet
from segrobust.networks.published.published_network import PublishedNetwork
from segrobust.networks.published.segformer import MMSegSegFormer
from segrobust.networks.published.segmenter import PIRATSegmenter
from segrobust.networks.published.semseg import SemsegDeepLabV3, SemsegPSPNet
from segrobust.networks.published.upernet import PIRATUPerNet
from segrobust.shipped import package_file

DatasetName: TypeAlias = Literal["Pascal VOC 2012", "Cityscapes", "ADE20K"]

_NUM_CLASSES: Final[dict[DatasetName, int]] = {"Pascal VOC 2012": 21, "Cityscapes": 19, "ADE20K": 151}
_MMSEG: Final = (MMSegDeepLabV3Plus, MMSegFCNHRNet, MMSegPSPNet, MMSegSegFormer)
_OTHERS: Final = (PIRATSegmenter, PIRATUPerNet, SemsegDeepLabV3, SemsegPSPNet)
_ARCHITECTURES: Final = {architecture.__name__: architecture for architecture in (*_MMSEG, *_OTHERS)}


@dataclass(frozen=True, kw_only=True)
class PublishedCheckpoint:
    """A file that its authors offer for download.

    Attributes:
        name: by which it is loaded.
        architecture: of the network.
        dataset: on which it was trained.
        protocol: what images the clean figure is for.
        url: where the file lies, or the archive that holds it.
        arguments: of the architecture, besides `num_classes`.
        member: path inside the archive; None where the file itself is offered.
        sha256: the first digits of the SHA-256 that its publisher states; None where none is stated.
        clean_miou: mIoU of unattacked images, in percent; None where the source at hand prints none.
    """

    name: str
    architecture: type[PublishedNetwork]
    dataset: DatasetName
    protocol: str
    url: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    member: str | None = None
    sha256: str | None = None
    clean_miou: float | None = None

    @property
    def num_classes(self) -> int:
        """Number of logits of a pixel."""
        return _NUM_CLASSES[self.dataset]

    def build(self, checkpoint: str | os.PathLike[str] | None = None) -> PublishedNetwork:
        """Makes the network, with the weights of a file of the right hash if one is given."""
        sha256 = self.sha256 if checkpoint is not None else None
        make: type = self.architecture
        network: PublishedNetwork = make(self.num_classes, **self.arguments, checkpoint=checkpoint, sha256=sha256)
        return network


def load_published(name: str, path: str | os.PathLike[str]) -> PublishedNetwork:
    """Makes a published network from a file that was downloaded before.

    Args:
        name: of `CHECKPOINTS`.
        path: the file. Its SHA-256 is compared as far as its publisher states it.

    Returns:
        The network in evaluation mode: images `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, K, H, W)`. Its attribute
        `left_out` names what the file held besides.

    Raises:
        OSError: the file cannot be opened.
        ValueError: an unknown name; or a file that is no checkpoint, has another hash, or does not fit.
    """
    entry = {checkpoint.name: checkpoint for checkpoint in CHECKPOINTS}.get(name)
    if entry is None:
        known = ", ".join(checkpoint.name for checkpoint in CHECKPOINTS)
        raise ValueError(f"no published checkpoint is named {name!r}; known are {known}")
    return entry.build(Path(path)).eval()


def checkpoint_table() -> str:
    """Writes `CHECKPOINTS` as a table in Markdown."""
    rows = [
        "| name | architecture | data | protocol of the clean figure | clean mIoU | SHA-256 | file |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in CHECKPOINTS:
        arguments = "".join(f", {name}={value!r}" for name, value in entry.arguments.items())
        architecture = f"`{entry.architecture.__name__}({entry.num_classes}{arguments})`"
        clean = "" if entry.clean_miou is None else f"{entry.clean_miou:g}"
        digits = "" if entry.sha256 is None else f"`{entry.sha256}...`"
        file = f"[link]({entry.url})" + ("" if entry.member is None else f", `{entry.member}`")
        cells = (f"`{entry.name}`", architecture, entry.dataset, entry.protocol, clean, digits, file)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _read_checkpoints() -> tuple[PublishedCheckpoint, ...]:
    entries: list[dict[str, Any]] = yaml.safe_load(
        package_file("networks/published/checkpoints.yaml").read_text("utf-8")
    )
    return tuple(
        PublishedCheckpoint(**entry | {"architecture": _ARCHITECTURES[entry["architecture"]]}) for entry in entries
    )


CHECKPOINTS: Final = _read_checkpoints()
"""The entries of `checkpoints.yaml`, in their order."""
