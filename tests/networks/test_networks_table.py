"""The table at the top of the page on networks: the code of every row runs and gives the network that is meant."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers
from networks import mask_classifiers
from networks.saved import save_smp
from torch import nn
from torchvision import models
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from segrobust import networks
from segrobust.attacks import PGD, Square

PAGE = (Path(__file__).parent.parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")
IMAGES = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def rows():
    """`(what you have, the code of what you write)` of the first table; links are left out of the text."""
    (_, *lines) = PAGE.split("| what you have | what you write |\n", 1)[1].split("\n\n", 1)[0].splitlines()
    for line in lines:
        have, write = (re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", cell.strip()) for cell in line.strip("|").split(" | "))
        yield have, [code for code in re.findall(r"`([^`]+)`", write) if re.search(r"[=(]", code)]


def plain(num_classes=3):
    torch.manual_seed(0)
    return nn.Conv2d(3, num_classes, 3, padding=1).eval()


class Around(nn.Module):
    """A network of somebody else: changes what the plain one gets and gives."""

    def __init__(self, before=lambda images: images, after=lambda logits: logits, network=None):
        super().__init__()
        self.network, self.before, self.after = network or plain(), before, after

    def forward(self, images):
        return self.after(self.network(self.before(images)))


class Half(Around):
    """Takes multiples of 32 alone."""

    def forward(self, images):
        assert images.shape[2] % 32 == images.shape[3] % 32 == 0
        return super().forward(images)


def channels(values):
    return torch.tensor(values).view(3, 1, 1)


IMAGENET = networks.Normalized(nn.Identity())


def undo(mean, std):
    return lambda images: images * channels(std) + channels(mean)


def main_logits(output):
    return output["heads"][0]["semantic"]


def written(network):
    def change(images):
        return images.mul_(2).div_(2)

    return Around(change, network=network)


def caffe(images):
    return ((images / 255) + channels((0.41, 0.46, 0.48))).flip(1)


def parallel(network):
    dist.init_process_group("gloo", init_method=f"file://{Path.cwd()}/store", rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(network)
    finally:
        dist.destroy_process_group()


def exported(network):
    sizes = {0: torch.export.Dim("b"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    return torch.export.export(network, (IMAGES,), dynamic_shapes=(sizes,))


def save_hf(num_labels):
    torch.manual_seed(0)
    sizes = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=num_labels, **sizes)).eval()
    network.save_pretrained("runs/hf")
    SegformerImageProcessor(image_mean=[0.0] * 3, image_std=[1.0] * 3).save_pretrained("runs/hf")
    return network


def save_other_hf(saved):
    for part in saved:
        part.save_pretrained("runs/hf")


class Queries(nn.Module):
    """Six queries over three classes and none, as the original code of Mask2Former returns them; or their logits."""

    def __init__(self, joined=False):
        super().__init__()
        torch.manual_seed(0)
        self.masks, self.classes, self.joined = nn.Conv2d(3, 6, 1), nn.Parameter(torch.randn(6, 4)), joined

    def forward(self, images):
        masks, classes = self.masks(images), self.classes.expand(len(images), -1, -1)
        if not self.joined:
            return {"pred_logits": classes, "pred_masks": masks}
        return torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid()).log()


def linear_head(backbone, width, num_classes):
    return nn.Sequential(backbone, nn.Conv2d(width, num_classes, 1))


def full(logits):
    return F.interpolate(logits, size=IMAGES.shape[-2:], mode="bilinear", align_corners=False)


def save_torchvision():
    torch.manual_seed(0)
    network = models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3).eval()
    torch.save(network.state_dict(), "weights.pth")
    preset = models.get_model_weights("lraspp_mobilenet_v3_large")["DEFAULT"].transforms()
    return Around(networks.Normalized(nn.Identity(), mean=preset.mean, std=preset.std), lambda o: o["out"], network)


def saved_smp():
    network = save_smp(Path("runs/smp"))
    config = Path("runs/smp/config.json")
    config.write_text(config.read_text().replace('"encoder_weights": null', '"encoder_weights": "imagenet"'))
    return Around(IMAGENET, network=network)


def saved_weights(*entries):
    """A file of these entries; the network to load is another one than the plain one."""
    other = nn.Conv2d(3, 3, 3, padding=1)
    states = {"state_dict_ema": plain().state_dict(), "state_dict": other.state_dict()}
    content = {name: states[name] for name in entries}
    torch.save(content if len(entries) > 1 else {"model_state_dict": states["state_dict_ema"], "epoch": 3}, "last.pth")
    return nn.Conv2d(3, 3, 3, padding=1)


def given(network, expected=None, **names):
    """The names that the code of a row finds, and the network that it must give."""
    return {"network": network, **names}, expected or plain()


def sigmoids(num):
    return Around(network=plain(num)), Around(network=plain(num), after=lambda z: torch.cat((0 * z[:, :1], z), 1))


def voided(order):
    return Around(after=lambda z: torch.cat([z[:, c : c + 1] if c >= 0 else z[:, :1] - 9 for c in order], 1))


RUNNERS = {
    "a module from images in [0, 1] to logits `(B, K, H, W)`": lambda: given(plain().train()),
    "one that is compiled, scripted, traced, or in `DataParallel`": lambda: given(
        nn.DataParallel(torch.jit.script(plain()))
    ),
    "one that writes to its input": lambda: given(written(plain())),
    "one that expects images normalised by ImageNet's mean and std": lambda: given(
        Around(lambda x: x * IMAGENET.std + IMAGENET.mean)
    ),
    "one with another mean and std": lambda: given(Around(undo((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)))),
    "one that expects images in -1..1": lambda: given(Around(undo((0.5,) * 3, (0.5,) * 3))),
    "one that expects images in 0..255": lambda: given(Around(lambda x: x / 255)),
    "one that expects blue, green, red": lambda: given(Around(lambda x: x.flip(1))),
    "one of Caffe: blue, green, red in 0..255 minus a mean": lambda: given(Around(caffe)),
    "logits of lower resolution": lambda: given(
        Around(after=lambda z: F.avg_pool2d(z, 4)), Around(after=lambda z: full(F.avg_pool2d(z, 4)))
    ),
    "sizes of images that must be multiples of 32": lambda: given(Half()),
    "a dictionary with `out`, as of torchvision": lambda: given(Around(after=lambda z: {"out": z, "aux": z})),
    "an output object with `logits`, as of `transformers`": lambda: given(
        Around(after=lambda z: transformers.modeling_outputs.SemanticSegmenterOutput(logits=z))
    ),
    "a tuple of logits and something else": lambda: given(Around(after=lambda z: (z, z.mean((2, 3))))),
    "several outputs, such as deep supervision, the last of which counts": lambda: given(
        Around(after=lambda z: [-z, z])
    ),
    "a dictionary with other names": lambda: given(Around(after=lambda z: {"semantic": z, "edges": z[:, :1]})),
    "logits somewhere deeper in the output": lambda: given(
        Around(after=lambda z: {"heads": [{"semantic": z}]}), main_logits=main_logits
    ),
    "one logit of a sigmoid": lambda: given(*sigmoids(1)),
    "logits of several sigmoids, none for the background": lambda: given(*sigmoids(2)),
    "a channel for void before the classes": lambda: given(voided((-1, 0, 1, 2))),
    "a channel for void after the classes": lambda: given(voided((0, 1, 2, -1))),
    "classes in another order than the data's": lambda: given(voided((1, 2, 0))),
    "a softmax at the end of an `nn.Sequential`": lambda: given(nn.Sequential(plain(), nn.Softmax(1))),
    "the layers in a list": lambda: given(None, layers=[plain(), nn.Identity()]),
    "weights in half precision or bfloat16": lambda: given(plain().half(), plain().half().float()),
    "float64 weights": lambda: given(plain().double(), plain().double(), images=IMAGES),
    "`DistributedDataParallel`": lambda: given(parallel(plain())),
    "a LightningModule that holds the network": lambda: given(None, task=SimpleNamespace(model=plain())),
    "a network that takes one size alone, or large images": lambda: given(
        nn.Conv2d(3, 3, 1).eval(), nn.Conv2d(3, 3, 1)
    ),
    "a folder or hub id of Segmentation Models PyTorch": lambda: given(None, saved_smp()),
    "SegFormer, UPerNet or another folder or hub id of `transformers`": lambda: given(
        None, Around(network=save_hf(3), after=lambda o: full(o.logits))
    ),
    "a network of `transformers` with one label": lambda: given(
        None, Around(network=save_hf(1), after=lambda o: full(torch.cat((0 * o.logits, o.logits), 1)))
    ),
    "Mask2Former, MaskFormer, OneFormer, EoMT, or DETR's panoptic head of `transformers`": lambda: given(
        save_other_hf(mask_classifiers.mask2former()), NotImplemented
    ),
    "a network of another author that classifies masks of queries": lambda: given(Queries(), Queries(joined=True)),
    "CLIPSeg and the texts of your classes": lambda: given(save_other_hf(mask_classifiers.clipseg()), NotImplemented),
    "a backbone such as DINOv2, and a linear head": lambda: given(
        None, NotImplemented, backbone=nn.Conv2d(3, 8, 8, stride=8), LinearHead=linear_head
    ),
    "weights of a network of torchvision": lambda: given(None, save_torchvision()),
    "a backbone of timm, for training": lambda: given(None, NotImplemented),
    "a TorchScript program in a file": lambda: torch.jit.script(plain()).save("net.pt") or given(None),
    "a program of `torch.export` in memory": lambda: given(None, exported=exported(plain())),
    "a checkpoint of a training, of any usual form": lambda: given(saved_weights("state_dict")),
    "raw weights beside their average in one file": lambda: given(saved_weights("state_dict", "state_dict_ema")),
    "a function, lambda or partial as a network": lambda: given(Around()),
    "a network without gradient (quantised, `no_grad`)": lambda: given(Around(after=lambda z: z.detach())),
}


def test_every_row_has_a_runner_and_every_runner_a_row():
    found = [have for have, _ in rows()]
    assert found == list(RUNNERS)
    assert len(found) >= 25


@pytest.mark.parametrize(("have", "code"), list(rows()), ids=[have for have, _ in rows()])
def test_a_row_gives_the_network_that_is_meant(have, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, expected = RUNNERS[have]()
    names = {**vars(networks), "torch": torch, "Square": Square, "images": IMAGES} | names
    for name in networks.__all__:
        names[name] = getattr(networks, name)
    for line in code:
        exec(line, names)
    network, images = names["network"], names["images"]
    if "exported" not in names:  # a program of torch.export has no modes
        network.eval()
    with torch.no_grad():
        logits = network(images.clone())
    if expected is not NotImplemented:
        if "window" in str(code):
            expected.load_state_dict(network.network.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(logits, expected.eval()(images), rtol=1e-4, atol=1e-4)
    attack = names.get("attack", PGD(num_steps=1))
    labels = logits.argmax(1)
    assert attack(network, images, labels, eps=2 / 255).num_classes == logits.shape[1]
