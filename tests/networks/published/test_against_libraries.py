"""Parts of the networks against the same parts of timm, torchvision and transformers, with the weights of these."""

import re

import pytest
import timm
import torch
import torchvision
from networks.published.references import Reference
from timm.models.hrnet import HighResolutionNetFeatures
from torch import nn

from segrobust.networks import load_backbone
from segrobust.networks.published import MMSegFCNHRNet, MMSegPSPNet, MMSegSegFormer, PIRATSegmenter, PIRATUPerNet

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def images(*size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def shaken(module, seed=0):
    """Weights and statistics that are neither zero nor one, as initialisation leaves many."""
    ref = Reference(seed)
    for name, weight in module.state_dict().items():
        if name.endswith(("running_var", "gamma")) or (weight.ndim == 1 and name.endswith("weight")):
            weight.copy_(ref.param(name, *weight.shape, scale=0.1, offset=1))
        elif weight.is_floating_point():
            fan_in = weight[0].numel() if weight.ndim > 1 else 100
            weight.copy_(ref.param(name, *weight.shape, scale=fan_in**-0.5))
    return module.eval()


def test_dilated_resnet_is_that_of_torchvision(tmp_path):
    theirs = shaken(torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]))
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    network = MMSegPSPNet(5, stem="plain", channels=4)
    report = load_backbone(network, tmp_path / "resnet50.pth")
    assert report.left_out == ("fc.weight", "fc.bias")
    assert report.initial == ()
    nodes = {f"layer{i}": str(i) for i in range(1, 5)}
    expected = torchvision.models._utils.IntermediateLayerGetter(theirs, nodes)(images(33, 47))
    stages = network.eval().core.backbone(images(33, 47))
    for found, wanted in zip(stages, expected.values(), strict=True):
        torch.testing.assert_close(found, wanted, **TOLERANCE)


def test_hrnet_is_that_of_timm_but_for_its_upsampling(tmp_path):
    cfg = {"stem_width": 64, "stage1": stage("BOTTLENECK", 1, 64)} | {
        f"stage{i}": stage("BASIC", modules, *(4, 6, 8, 10)[:i])
        for i, modules in zip((2, 3, 4), (1, 4, 3), strict=True)
    }
    theirs = HighResolutionNetFeatures(cfg, feature_location="", out_indices=(1, 2, 3, 4))
    for module in theirs.modules():
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = "bilinear", False
    shaken(theirs)
    torch.save(theirs.state_dict(), tmp_path / "hrnet.pth")
    network = MMSegFCNHRNet(5, widths=(4, 6, 8, 10))
    load_backbone(network, tmp_path / "hrnet.pth")
    network.eval()
    for found, wanted in zip(network.core.backbone(images(64, 96)), theirs(images(64, 96)), strict=True):
        torch.testing.assert_close(found, wanted, **TOLERANCE)


def stage(block, num_modules, *channels):
    return {
        "num_modules": num_modules,
        "num_branches": len(channels),
        "block_type": block,
        "num_blocks": (4,) * len(channels),
        "num_channels": channels,
        "fuse_method": "SUM",
    }


class ConvStem(nn.Module):
    """As `nmndeep/revisiting-at` puts it in the place of timm's stem."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, width // 2, 3, 2, 1), timm.layers.LayerNorm2d(width // 2, eps=1e-6), nn.GELU()),
            *(nn.Conv2d(width // 2, width, 3, 2, 1), timm.layers.LayerNorm2d(width, eps=1e-6), nn.GELU()),
        )

    def forward(self, x):
        return self.stem(x)


def test_convnext_is_that_of_timm_with_a_conv_stem(tmp_path):
    theirs = timm.models.convnext.ConvNeXt(depths=(3, 3, 9, 3), dims=(8, 16, 32, 64), num_classes=7)
    theirs.stem = ConvStem(8)
    shaken(theirs)
    file = {f"module.base_model.{name}": weight for name, weight in theirs.state_dict().items()}
    file |= {"module.base_normalize.mean": torch.zeros(1, 3, 1, 1), "module.base_normalize.std": torch.ones(1, 3, 1, 1)}
    torch.save(file, tmp_path / "convnext_tiny_cvst_robust.pt")
    network = PIRATUPerNet(5, width=8, channels=4)
    report = load_backbone(network, tmp_path / "convnext_tiny_cvst_robust.pt")
    assert {name.removeprefix("module.").split(".")[-2] for name in report.left_out} == {"base_normalize", "norm", "fc"}
    assert {name.split(".")[0] for name in report.initial} == {"norm0", "norm1", "norm2", "norm3"}
    backbone = network.eval().core.backbone
    for norm in (backbone.norm0, backbone.norm1, backbone.norm2, backbone.norm3):
        shaken(norm)
    features = theirs.stem(images(64, 71))
    for i, found in enumerate(backbone(images(64, 71))):
        features = theirs.stages[i](features)
        torch.testing.assert_close(found, getattr(backbone, f"norm{i}")(features), **TOLERANCE)


def vit(size):
    return timm.models.VisionTransformer(
        img_size=size, embed_dim=128, depth=2, num_heads=2, num_classes=7, norm_layer=nn.LayerNorm
    )


def test_vit_is_that_of_timm(tmp_path):
    theirs = shaken(vit(64))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "vit.pt")
    network = PIRATSegmenter(5, image_size=64, width=128, depth=2)
    report = load_backbone(network, tmp_path / "vit.pt")
    assert report.left_out == ("head.weight", "head.bias")
    assert report.resized == ()
    found = network.eval().core.encoder(images(64, 64))
    torch.testing.assert_close(found, theirs.forward_features(images(64, 64))[:, 1:], **TOLERANCE)


def test_positions_of_a_vit_are_interpolated(tmp_path):
    theirs = shaken(vit(32))
    torch.save(theirs.state_dict(), tmp_path / "vit.pt")
    network = PIRATSegmenter(5, image_size=64, width=128, depth=2)
    assert load_backbone(network, tmp_path / "vit.pt").resized == ("pos_embed",)
    found = network.core.encoder.pos_embed
    grid = theirs.pos_embed[:, 1:].reshape(1, 2, 2, 128).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(4, 4), mode="bilinear").permute(0, 2, 3, 1).reshape(1, 16, 128)
    torch.testing.assert_close(found, torch.cat([theirs.pos_embed[:, :1], grid], 1))


_TRANSFORMERS_NAMES = (
    (r"patch_embeddings\.proj", "0.projection"),
    (r"patch_embeddings\.layer_norm", "0.norm"),
    (r"blocks\.(\d+)\.layernorm_before", r"1.\1.norm1"),
    (r"blocks\.(\d+)\.layernorm_after", r"1.\1.norm2"),
    (r"blocks\.(\d+)\.attention\.o_proj", r"1.\1.attn.attn.out_proj"),
    (r"blocks\.(\d+)\.attention\.sequence_reduction\.sequence_reduction", r"1.\1.attn.sr"),
    (r"blocks\.(\d+)\.attention\.sequence_reduction\.layer_norm", r"1.\1.attn.norm"),
    (r"blocks\.(\d+)\.mlp\.fc1", r"1.\1.ffn.layers.0"),
    (r"blocks\.(\d+)\.mlp\.dwconv\.dwconv", r"1.\1.ffn.layers.1"),
    (r"blocks\.(\d+)\.mlp\.fc2", r"1.\1.ffn.layers.4"),
    (r"layer_norm", "2"),
)


def test_mix_transformer_is_that_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5", reason="needs transformers 5, extra `hf`")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 40, 64], num_attention_heads=[1, 2, 5, 8], depths=[2, 2, 2, 2], decoder_hidden_size=8
    )
    theirs = transformers.SegformerModel(config)
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6  # as in mmsegmentation
    state = shaken(theirs).state_dict()
    weights = {}
    for name, weight in state.items():
        if "q_proj" in name:
            joined = torch.cat([state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            stage_and_block = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.attention\.q_proj\.(\w+)", name)
            weights["layers.{}.1.{}.attn.attn.in_proj_{}".format(*stage_and_block.groups())] = joined
        elif not re.search("k_proj|v_proj", name):
            index, rest = re.fullmatch(r"stages\.(\d+)\.(.*)", name).groups()
            for pattern, replacement in _TRANSFORMERS_NAMES:
                if re.match(pattern, rest):
                    weight = weight.reshape(*weight.shape, 1, 1) if re.search(r"fc[12]\.weight", rest) else weight
                    weights[f"layers.{index}.{re.sub(f'^{pattern}', replacement, rest)}"] = weight
                    break
    torch.save(weights, tmp_path / "mit_b0.pth")
    network = MMSegSegFormer(5, width=8, channels=4)
    load_backbone(network, tmp_path / "mit_b0.pth")
    expected = theirs(images(64, 96), output_hidden_states=True).hidden_states
    found = network.eval().core.backbone(images(64, 96))
    for ours, wanted in zip(found, expected[-4:], strict=True):
        torch.testing.assert_close(ours, wanted, **TOLERANCE)


def test_upernet_head_is_that_of_transformers():
    transformers = pytest.importorskip("transformers", minversion="5", reason="needs transformers 5, extra `hf`")
    from transformers.models.upernet.modeling_upernet import UperNetHead

    backbone = transformers.ConvNextConfig(hidden_sizes=[8, 16, 32, 64], out_features=["stage1"])
    config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=12, num_labels=5)
    theirs = shaken(UperNetHead(config, [8, 16, 32, 64]))
    head = PIRATUPerNet(5, width=8, channels=12).eval().core.decode_head
    head.load_state_dict(theirs.state_dict(), strict=True)
    maps = [torch.randn(2, 8 * 2**i, 32 // 2**i, 45 // 2**i) for i in range(4)]
    torch.testing.assert_close(head(maps), theirs(list(maps)), **TOLERANCE)
