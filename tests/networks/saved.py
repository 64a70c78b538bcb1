"""Small networks of libraries with random weights of ordinary size, as the libraries themselves save them."""

from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn


def enliven(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and running statistics at random, so that logits are of order 1 and depend on all of them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = max(weight[0].numel(), 1) if weight.ndim > 1 else 100
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5 + (weight.ndim == 1))
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network.eval()


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An RGB image of bytes, (H, W, 3), as a file gives it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_tensor(photo: np.ndarray) -> Tensor:
    """What segrobust's data sets make of it: (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


def save_smp(folder: Path, architecture: str = "FPN", **settings: object) -> nn.Module:
    """A network of Segmentation Models PyTorch, saved by its own method."""
    defaults = {"encoder_name": "tu-test_byobnet", "encoder_weights": None, "classes": 3}
    network = enliven(getattr(smp, architecture)(**defaults | settings))
    network.save_pretrained(folder)
    return network


def transformers():
    return pytest.importorskip("transformers", reason="networks of Hugging Face need the extra `hf`")


def save_segformer(folder: Path, names: tuple[str, ...] = ("road", "sky", "car"), **processor: object) -> nn.Module:
    """A SegFormer of four tiny stages, and its image processor."""
    hf = transformers()
    config = hf.SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    network = enliven(hf.SegformerForSemanticSegmentation(config))
    network.save_pretrained(folder)
    hf.SegformerImageProcessor(do_resize=False, **processor).save_pretrained(folder)
    return network


def assert_has_gradient(network: nn.Module, images: Tensor) -> None:
    """The gradient of the logits with respect to the images is finite, and not zero in most values."""
    images = images.clone().requires_grad_()
    logits = network(images)
    assert logits.dtype == torch.float32
    assert logits.shape[-2:] == images.shape[-2:]
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).double().mean() > 0.5
