"""Which checkpoints are published: what they are, where they lie, what they were measured at.

Clean figures are mIoU in percent over the whole validation set, as their sources print them: mmsegmentation's model
zoo, the tables of SEA (ECCV 2024) and of DDC-AT (ICCV 2021). They hold for the protocol that is named.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from segrobust.networks.published.deeplabv3plus import MMSegDeepLabV3Plus
from segrobust.networks.published.hrnet import MMSegFCNHRNet
from segrobust.networks.published.pspnet import MMSegPSPNet
from segrobust.networks.published.published_network import PublishedNetwork
from segrobust.networks.published.segformer import MMSegSegFormer
from segrobust.networks.published.segmenter import PIRATSegmenter
from segrobust.networks.published.semseg import SemsegDeepLabV3, SemsegPSPNet
from segrobust.networks.published.upernet import PIRATUPerNet

DatasetName: TypeAlias = Literal["Pascal VOC 2012", "Cityscapes", "ADE20K"]

_NUM_CLASSES: Final[dict[DatasetName, int]] = {"Pascal VOC 2012": 21, "Cityscapes": 19, "ADE20K": 151}
_OPENMMLAB: Final = "https://download.openmmlab.com/mmsegmentation/v0.5"
_TUEBINGEN: Final = "https://nc.mlcloud.uni-tuebingen.de/index.php/s"
_DDCAT: Final = "https://drive.google.com/uc?id=120xLY_pGZlm3tqaLxTLVp99e06muBjJC"

_WHOLE: Final[dict[DatasetName, str]] = {
    "Pascal VOC 2012": "whole images, shorter side 512",
    "Cityscapes": "whole images, 1024x2048",
}
_SLIDING: Final = "windows of 1024x1024, 768 apart"
_PIR_AT: Final[dict[DatasetName, str]] = {
    "Pascal VOC 2012": "shorter side 473, centre 473x473, void as background",
    "ADE20K": "shorter side 512, centre 512x512, 151 classes",
}
_SEMSEG: Final[dict[DatasetName, str]] = {
    "Pascal VOC 2012": "longer side 512, windows of 473x473, with their mirror images",
    "Cityscapes": "longer side 1024, windows of 449x449, with their mirror images",
}


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


def _mmseg(
    architecture: type[PublishedNetwork],
    file: str,
    clean_miou: float | None = None,
    protocol: str | None = None,
    **arguments: object,
) -> PublishedCheckpoint:
    """A file of mmsegmentation's zoo, `<head>_<backbone>_..._<data>_<date>_<time>-<first digits of the hash>`."""
    configuration, sha256 = file.rsplit("_", 2)[0], file.rsplit("-", 1)[1]
    head, backbone = configuration.split("_")[:2]
    dataset: DatasetName = "Cityscapes" if configuration.endswith("cityscapes") else "Pascal VOC 2012"
    size, data = backbone.removeprefix("mit-").split("-")[0], "cityscapes" if dataset == "Cityscapes" else "voc"
    return PublishedCheckpoint(
        name=f"mmseg_{head}_{size}_{data}",
        architecture=architecture,
        dataset=dataset,
        protocol=protocol or _WHOLE[dataset],
        url=f"{_OPENMMLAB}/{'hrnet' if head == 'fcn' else head}/{configuration}/{file}.pth",
        arguments=arguments,
        sha256=sha256,
        clean_miou=clean_miou,
    )


def _pir_at(
    name: str,
    architecture: type[PublishedNetwork],
    dataset: DatasetName,
    share: str,
    clean_miou: float,
    **arguments: object,
) -> PublishedCheckpoint:
    return PublishedCheckpoint(
        name=f"pirat_{name}",
        architecture=architecture,
        dataset=dataset,
        protocol=_PIR_AT[dataset],
        url=f"{_TUEBINGEN}/{share}/download",
        arguments=arguments,
        clean_miou=clean_miou,
    )


def _ddcat(
    architecture: type[PublishedNetwork], dataset: DatasetName, training: str, clean_miou: float
) -> PublishedCheckpoint:
    data, epochs = {"Pascal VOC 2012": ("voc2012", 50), "Cityscapes": ("cityscapes", 400)}[dataset]
    network = architecture.__name__.removeprefix("Semseg").lower()
    return PublishedCheckpoint(
        name=f"ddcat_{network}_{training}_{data}",
        architecture=architecture,
        dataset=dataset,
        protocol=_SEMSEG[dataset],
        url=_DDCAT,
        member=f"{data}/{network}/{training}/train_epoch_{epochs}.pth",
        clean_miou=clean_miou,
    )


CHECKPOINTS: Final[tuple[PublishedCheckpoint, ...]] = (
    _mmseg(MMSegDeepLabV3Plus, "deeplabv3plus_r50-d8_512x512_40k_voc12aug_20200613_161759-e1b43aa9", 76.81),
    _mmseg(MMSegDeepLabV3Plus, "deeplabv3plus_r101-d8_512x512_40k_voc12aug_20200613_205333-faf03387", 78.62, depth=101),
    _mmseg(
        MMSegDeepLabV3Plus,
        "deeplabv3plus_r50b-d8_512x1024_80k_cityscapes_20201225_213645-a97e4e43",
        80.28,
        stem="plain",
    ),
    _mmseg(MMSegFCNHRNet, "fcn_hr48_512x512_40k_voc12aug_20200613_222111-1b0f18bc", 76.24),
    _mmseg(MMSegFCNHRNet, "fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e", 80.65),
    _mmseg(MMSegPSPNet, "pspnet_r50-d8_512x512_40k_voc12aug_20200613_161222-ae9c1b8c", 77.29),
    _mmseg(MMSegPSPNet, "pspnet_r50-d8_512x1024_40k_cityscapes_20200605_003338-2966598c"),
    _mmseg(
        MMSegSegFormer,
        "segformer_mit-b0_8x1_1024x1024_160k_cityscapes_20211208_101857-e7f88502",
        76.54,
        _SLIDING,
        variant="b0",
    ),
    _mmseg(
        MMSegSegFormer,
        "segformer_mit-b3_8x1_1024x1024_160k_cityscapes_20211206_224823-a8f8a177",
        81.94,
        _SLIDING,
        variant="b3",
    ),
    _pir_at("upernet_convnext_t_voc", PIRATUPerNet, "Pascal VOC 2012", "zSFgoAngcm47FZm", 75.2, variant="tiny"),
    _pir_at("upernet_convnext_s_voc", PIRATUPerNet, "Pascal VOC 2012", "MBXnMd5QKztmZaa", 76.6, variant="small"),
    _pir_at("upernet_convnext_t_ade20k", PIRATUPerNet, "ADE20K", "ACMQRiyfyXboXwT", 31.7, variant="tiny"),
    _pir_at("upernet_convnext_s_ade20k", PIRATUPerNet, "ADE20K", "Smogk2BWbfMxkyo", 32.1, variant="small"),
    _pir_at("segmenter_vit_s_ade20k", PIRATSegmenter, "ADE20K", "XF6Woa9G3eiGPig", 28.7),
    _ddcat(SemsegPSPNet, "Pascal VOC 2012", "no_defense", 76.9),
    _ddcat(SemsegPSPNet, "Pascal VOC 2012", "sat", 74.3),
    _ddcat(SemsegPSPNet, "Pascal VOC 2012", "ddcat", 76.0),
    _ddcat(SemsegPSPNet, "Cityscapes", "no_defense", 74.6),
    _ddcat(SemsegPSPNet, "Cityscapes", "sat", 69.0),
    _ddcat(SemsegPSPNet, "Cityscapes", "ddcat", 71.7),
    _ddcat(SemsegDeepLabV3, "Pascal VOC 2012", "no_defense", 77.5),
    _ddcat(SemsegDeepLabV3, "Pascal VOC 2012", "sat", 72.7),
    _ddcat(SemsegDeepLabV3, "Pascal VOC 2012", "ddcat", 75.2),
    _ddcat(SemsegDeepLabV3, "Cityscapes", "no_defense", 74.8),
    _ddcat(SemsegDeepLabV3, "Cityscapes", "sat", 69.4),
    _ddcat(SemsegDeepLabV3, "Cityscapes", "ddcat", 71.3),
)
