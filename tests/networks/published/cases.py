"""One case per architecture: the reference, small and full-size arguments of both sides, the container of its files."""

from dataclasses import dataclass, field

import torch
from networks.published import references
from networks.published.references import Reference

from segrobust.networks.published import (
    MMSegDeepLabV3Plus,
    MMSegFCNHRNet,
    MMSegPSPNet,
    MMSegSegFormer,
    PIRATSegmenter,
    PIRATUPerNet,
    SemsegDeepLabV3,
    SemsegPSPNet,
)

META = {"mmseg_version": "0.5.0+b57fb2b", "CLASSES": ("background", "aeroplane"), "PALETTE": [[0, 0, 0], [128, 0, 0]]}


def mmseg_file(weights):
    """As mmsegmentation's `publish_model` leaves it."""
    return {"meta": META, "state_dict": dict(weights)}


def semseg_file(weights):
    """As the training loop of hszhao/semseg saves it, from data parallelism."""
    parallel = {f"module.{name}": weight for name, weight in weights.items()}
    return {"epoch": 50, "state_dict": parallel, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}}}


@dataclass(frozen=True, kw_only=True)
class Case:
    architecture: type
    reference: object
    small: dict  # arguments of the architecture
    small_reference: dict = field(default_factory=dict)  # what the reference calls otherwise
    full: dict = field(default_factory=dict)
    full_reference: dict = field(default_factory=dict)
    file: object = dict
    size: tuple = (40, 57)
    left_out: tuple = ()  # prefixes in the file
    made: dict = field(default_factory=dict)  # logits and weights of references that were made already

    def images(self, seed=7):
        return torch.rand(2, 3, *self.size, generator=torch.Generator().manual_seed(seed))

    def expected(self, seed=3):
        """Logits and weights of the small reference."""
        if seed not in self.made:
            ref = Reference(seed)
            logits = self.reference(ref, self.images(), 5, **(self.small | self.small_reference))
            self.made[seed] = (logits, ref.weights)
        return self.made[seed]

    def write(self, path, weights):
        torch.save(self.file(weights), path)
        return path

    def build(self, path=None):
        return self.architecture(5, **self.small, checkpoint=path)


def semseg_psp(ref, images, num_classes, **settings):
    return references.semseg(ref, images, num_classes, head="ppm", **({"channels": 512} | settings))


def semseg_deeplab(ref, images, num_classes, **settings):
    return references.semseg(ref, images, num_classes, head="aspp", **({"channels": 256} | settings))


_MMSEG = {"file": mmseg_file, "left_out": ("auxiliary_head.",)}
_DDCAT = {"file": semseg_file, "size": (33, 41), "left_out": ("aux_cls1.", "cls2.", "mask1.")}
_HRNET = {"widths": (4, 6, 8, 10), "stem_width": 4}

CASES = {
    "mmseg deeplabv3plus r50": Case(
        architecture=MMSegDeepLabV3Plus,
        reference=references.deeplabv3plus,
        small={"width": 4, "channels": 8, "low_channels": 3},
        **_MMSEG,
    ),
    "mmseg deeplabv3plus r50b": Case(
        architecture=MMSegDeepLabV3Plus,
        reference=references.deeplabv3plus,
        small={"width": 4, "channels": 8, "low_channels": 3, "stem": "plain"},
        full={"stem": "plain"},
        full_reference={"stem": "plain"},
        **_MMSEG,
    ),
    "mmseg deeplabv3plus r101": Case(
        architecture=MMSegDeepLabV3Plus,
        reference=references.deeplabv3plus,
        small={"width": 4, "channels": 8, "low_channels": 3, "depth": 101},
        full={"depth": 101},
        full_reference={"depth": 101},
        **_MMSEG,
    ),
    "mmseg pspnet r50": Case(
        architecture=MMSegPSPNet, reference=references.pspnet, small={"width": 4, "channels": 8}, **_MMSEG
    ),
    "mmseg fcn hrnet w48": Case(
        architecture=MMSegFCNHRNet, reference=references.fcn_hrnet, small=_HRNET, file=mmseg_file
    ),
    "mmseg segformer b0": Case(
        architecture=MMSegSegFormer,
        reference=references.segformer,
        small={"width": 8, "channels": 8},
        size=(64, 97),
        file=mmseg_file,
    ),
    "mmseg segformer b3": Case(
        architecture=MMSegSegFormer,
        reference=lambda ref, images, k, variant="b3", **settings: references.segformer(
            ref, images, k, depths=(3, 4, 18, 3), **settings
        ),
        small={"width": 8, "channels": 8, "variant": "b3"},
        full={"variant": "b3"},
        full_reference={"width": 64},
        size=(64, 97),
        file=mmseg_file,
    ),
    "pirat upernet convnext t": Case(
        architecture=PIRATUPerNet,
        reference=references.upernet,
        small={"width": 8, "channels": 8},
        left_out=("auxiliary_head.",),
    ),
    "pirat upernet convnext s": Case(
        architecture=PIRATUPerNet,
        reference=lambda ref, images, k, variant="small", **settings: references.upernet(
            ref, images, k, depths=(3, 3, 27, 3), **settings
        ),
        small={"width": 4, "channels": 4, "variant": "small"},
        full={"variant": "small"},
        left_out=("auxiliary_head.",),
    ),
    "pirat segmenter vit s": Case(
        architecture=PIRATSegmenter,
        reference=references.segmenter,
        small={"image_size": 64, "width": 128, "depth": 2},
        left_out=("encoder.head.",),
    ),
    "pirat pspnet r50": Case(
        architecture=SemsegPSPNet,
        reference=semseg_psp,
        small={"width": 4, "channels": 8, "stem": "plain", "normalized": False},
        full={"stem": "plain", "normalized": False},
        full_reference={"stem": "plain"},
        size=(33, 41),
        left_out=("aux.",),
    ),
    "semseg pspnet r50": Case(
        architecture=SemsegPSPNet,
        reference=semseg_psp,
        small={"width": 4, "channels": 8},
        file=semseg_file,
        size=(33, 41),
        left_out=("aux.",),
    ),
    "ddcat pspnet r50": Case(
        architecture=SemsegPSPNet,
        reference=semseg_psp,
        small={"width": 4, "channels": 8},
        small_reference={"ddcat": True},
        full_reference={"ddcat": True},
        **_DDCAT,
    ),
    "ddcat deeplabv3 r50": Case(
        architecture=SemsegDeepLabV3,
        reference=semseg_deeplab,
        small={"width": 4, "channels": 8},
        small_reference={"ddcat": True},
        full_reference={"ddcat": True},
        **_DDCAT,
    ),
}
