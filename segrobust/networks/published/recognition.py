"""Recognises an architecture by the names and shapes of its weights, for messages about the wrong one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

_Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class _Signature:
    """A name that only one architecture has, what it is, and what its arguments would be."""

    contains: str
    architecture: str
    arguments: Callable[[_Weights], dict[str, object]] = lambda weights: {}


_CLASSIFIERS = (
    *("decode_head.conv_seg.weight", "decode_head.classifier.weight", "decoder.mask_norm.weight"),
    *("cls.4.weight", "cls1.4.weight"),
)
"""Weights of the last layers, one value or more for each class."""


def _resnet(weights: _Weights) -> dict[str, object]:
    depth = 101 if any("layer3.22." in name for name in weights) else 50
    plain = "backbone.conv1.weight" in weights or (
        "layer0.0.weight" in weights and weights["layer0.0.weight"].shape[-1] == 7
    )
    return {"depth": depth, "stem": "plain" if plain else "deep"}


def _mit(weights: _Weights) -> dict[str, object]:
    width = len(weights["backbone.layers.0.0.projection.bias"])
    depth = len({name.split(".")[4] for name in weights if name.startswith("backbone.layers.2.1.")})
    return {"variant": {(32, 2): "b0", (64, 18): "b3"}.get((width, depth), f"unknown: width {width}, depth {depth}")}


def _convnext(weights: _Weights) -> dict[str, object]:
    depth = len({name.split(".")[3] for name in weights if name.startswith("backbone.stages.2.")})
    return {"variant": "small" if depth > 9 else "tiny"}


_SIGNATURES = (
    _Signature(contains="decode_head.sep_bottleneck.", architecture="MMSegDeepLabV3Plus", arguments=_resnet),
    _Signature(contains="backbone.stage4.", architecture="MMSegFCNHRNet"),
    _Signature(contains="backbone.layers.0.0.projection.bias", architecture="MMSegSegFormer", arguments=_mit),
    _Signature(contains="backbone.downsample_layers.", architecture="PIRATUPerNet", arguments=_convnext),
    _Signature(contains="decode_head.psp_modules.", architecture="MMSegPSPNet", arguments=_resnet),
    _Signature(contains="decoder.cls_emb", architecture="PIRATSegmenter"),
    _Signature(contains="ppm.features.", architecture="SemsegPSPNet", arguments=_resnet),
    _Signature(contains="aspp.convs.", architecture="SemsegDeepLabV3", arguments=_resnet),
)
"""Architectures that this package has."""

_OTHERS = {
    "stages.0.blocks.0.conv_dw.": "a ConvNeXt classifier, see `load_backbone`",
    "fc.weight": "a classifier, see `load_backbone`",
    "segformer.encoder.": "SegFormer of transformers, which is another format",
}
"""What else a file may hold, by a name that it contains."""


def recognise(weights: _Weights) -> str | None:
    """Gives the likely architecture as one would write it, such as `MMSegPSPNet(num_classes=21, depth=50, ...)`."""
    for signature in _SIGNATURES:
        if any(signature.contains in name for name in weights):
            return _write(signature, weights)
    return next((what for part, what in _OTHERS.items() if any(part in name for name in weights)), None)


def likely_instead(weights: _Weights, otherwise: str = "") -> str:
    """The end of a message about weights that do not fit: what they look like."""
    likely = recognise(weights)
    return f"; it looks like {likely}" if likely else otherwise


def _write(signature: _Signature, weights: _Weights) -> str:
    classifier = next((weights[name] for name in _CLASSIFIERS if name in weights), None)
    arguments = ({} if classifier is None else {"num_classes": len(classifier)}) | signature.arguments(weights)
    written = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{signature.architecture}({written})" if written else signature.architecture
