"""The published architectures once more, from their papers and formats: functions, and weights by their original names.

Nothing here uses `segrobust`. A `Reference` makes a weight, random, when a function first asks for it, so that one pass
gives both the logits and the state dict that the original code would have written.
"""

import math

import torch
import torch.nn.functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Reference:
    """Layers by name; weights are values of float32, arithmetic is in float64. On `meta`, names and shapes alone."""

    def __init__(self, seed=0, device="cpu"):
        self.weights = {}
        self.device = device
        self._generator = torch.Generator().manual_seed(seed)

    def param(self, name, *shape, scale=1.0, offset=0.0):
        if name not in self.weights:
            if self.device == "meta":
                self.weights[name] = torch.empty(shape, device="meta")
            else:
                self.weights[name] = offset + scale * torch.randn(shape, generator=self._generator)
        return self.weights[name].double()

    def conv(self, x, name, out, k=1, *, stride=1, dilation=1, groups=1, bias=False, padding=None):
        fan_in = x.shape[1] // groups * k * k
        weight = self.param(f"{name}.weight", out, x.shape[1] // groups, k, k, scale=1.4 / math.sqrt(fan_in))
        padding = dilation * (k // 2) if padding is None else padding
        offset = self.param(f"{name}.bias", out, scale=0.1) if bias else None
        return F.conv2d(x, weight, offset, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def bn(self, x, name, relu=True):
        channels = x.shape[1]
        weight = self.param(f"{name}.weight", channels, scale=0.2, offset=1)
        bias = self.param(f"{name}.bias", channels, scale=0.2)
        mean = self.param(f"{name}.running_mean", channels, scale=0.2)
        variance = self.param(f"{name}.running_var", channels, scale=0.1, offset=1)
        self.weights.setdefault(f"{name}.num_batches_tracked", torch.tensor(40000, device=self.device))
        y = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        y = y * weight[:, None, None] + bias[:, None, None]
        return y.relu() if relu else y

    def linear(self, x, name, out):
        weight = self.param(f"{name}.weight", out, x.shape[-1], scale=1 / math.sqrt(x.shape[-1]))
        return x @ weight.T + self.param(f"{name}.bias", out, scale=0.1)

    def ln(self, x, name, eps):
        """Over the last dimension."""
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        weight = self.param(f"{name}.weight", x.shape[-1], scale=0.2, offset=1)
        return (x - mean) / (variance + eps).sqrt() * weight + self.param(f"{name}.bias", x.shape[-1], scale=0.1)

    def ln2d(self, x, name, eps=1e-6):
        return self.ln(x.permute(0, 2, 3, 1), name, eps).permute(0, 3, 1, 2)

    def conv_module(self, x, name, out, k=1, *, norm="bn", **settings):
        return self.bn(self.conv(x, f"{name}.conv", out, k, **settings), f"{name}.{norm}")

    def separable(self, x, name, out, dilation=1):
        x = self.conv_module(x, f"{name}.depthwise_conv", x.shape[1], 3, dilation=dilation, groups=x.shape[1])
        return self.conv_module(x, f"{name}.pointwise_conv", out)


def normalise(images):
    mean, std = (torch.tensor(values)[:, None, None].double().to(images.device) for values in (MEAN, STD))
    return (images.double() - mean) / std


def up(x, size, align_corners=False):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def bottleneck(ref, x, name, planes, stride=1, dilation=1, shortcut=False):
    y = ref.bn(ref.conv(x, f"{name}.conv1", planes), f"{name}.bn1")
    y = ref.bn(ref.conv(y, f"{name}.conv2", planes, 3, stride=stride, dilation=dilation), f"{name}.bn2")
    y = ref.bn(ref.conv(y, f"{name}.conv3", 4 * planes), f"{name}.bn3", relu=False)
    if shortcut:
        x = ref.bn(ref.conv(x, f"{name}.downsample.0", 4 * planes, stride=stride), f"{name}.downsample.1", relu=False)
    return (x + y).relu()


def residual_stages(ref, x, prefix, depth, width, contract):
    outputs = []
    for i, (blocks, stride, dilation) in enumerate(zip(BLOCKS[depth], (1, 2, 1, 1), (1, 1, 2, 4), strict=True)):
        for j in range(blocks):
            first = j == 0
            used = dilation // 2 if first and contract and dilation > 1 else dilation
            name = f"{prefix}layer{i + 1}.{j}"
            x = bottleneck(ref, x, name, width * 2**i, stride if first else 1, used, shortcut=first)
        outputs.append(x)
    return outputs


def mmseg_resnet(ref, images, depth, stem, width):
    x = normalise(images)
    if stem == "deep":
        for i, out in zip((0, 3, 6), (width // 2, width // 2, width), strict=True):
            x = ref.conv(x, f"backbone.stem.{i}", out, 3, stride=2 if i == 0 else 1)
            x = ref.bn(x, f"backbone.stem.{i + 1}")
    else:
        x = ref.bn(ref.conv(x, "backbone.conv1", width, 7, stride=2), "backbone.bn1")
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    return residual_stages(ref, x, "backbone.", depth, width, contract=True)


def auxiliary_head(ref, stages, num_classes, norm="bn", classifier="conv_seg", channels=256):
    """Asked for its weights alone."""
    x = ref.conv_module(stages[2], "auxiliary_head.convs.0", channels, 3, norm=norm)
    ref.conv(x, f"auxiliary_head.{classifier}", num_classes, bias=True)


def deeplabv3plus(ref, images, num_classes, depth=50, stem="deep", width=64, channels=512, low_channels=48):
    stages = mmseg_resnet(ref, images, depth, stem, width)
    auxiliary_head(ref, stages, num_classes)
    last = stages[3]
    pooled = ref.conv_module(last.mean((2, 3), keepdim=True), "decode_head.image_pool.1", channels)
    branches = [pooled.expand(-1, -1, *last.shape[2:]), ref.conv_module(last, "decode_head.aspp_modules.0", channels)]
    for i, dilation in enumerate((12, 24, 36), start=1):
        branches.append(ref.separable(last, f"decode_head.aspp_modules.{i}", channels, dilation))
    x = ref.conv_module(torch.cat(branches, 1), "decode_head.bottleneck", channels, 3)
    low = ref.conv_module(stages[0], "decode_head.c1_bottleneck", low_channels)
    x = torch.cat([up(x, low.shape[2:]), low], 1)
    x = ref.separable(x, "decode_head.sep_bottleneck.0", channels)
    x = ref.separable(x, "decode_head.sep_bottleneck.1", channels)
    return up(ref.conv(x, "decode_head.conv_seg", num_classes, bias=True), images.shape[2:])


def pyramid(ref, x, name, channels, norm="bn", align_corners=False):
    pooled = [ref.conv_module(F.adaptive_avg_pool2d(x, s), f"{name}.{i}.1", channels, norm=norm)
              for i, s in enumerate((1, 2, 3, 6))]  # fmt: skip
    return torch.cat([x, *(up(y, x.shape[2:], align_corners) for y in pooled)], 1)


def pspnet(ref, images, num_classes, depth=50, stem="deep", width=64, channels=512):
    stages = mmseg_resnet(ref, images, depth, stem, width)
    auxiliary_head(ref, stages, num_classes)
    x = pyramid(ref, stages[3], "decode_head.psp_modules", channels)
    x = ref.conv_module(x, "decode_head.bottleneck", channels, 3)
    return up(ref.conv(x, "decode_head.conv_seg", num_classes, bias=True), images.shape[2:])


def basic_block(ref, x, name):
    y = ref.bn(ref.conv(x, f"{name}.conv1", x.shape[1], 3), f"{name}.bn1")
    return (x + ref.bn(ref.conv(y, f"{name}.conv2", x.shape[1], 3), f"{name}.bn2", relu=False)).relu()


def hr_module(ref, maps, name):
    for i in range(len(maps)):
        for j in range(4):
            maps[i] = basic_block(ref, maps[i], f"{name}.branches.{i}.{j}")
    fused = []
    for i in range(len(maps)):
        total = torch.zeros_like(maps[i])
        for j in range(len(maps)):
            y, layer = maps[j], f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                y = ref.bn(ref.conv(y, f"{layer}.0", maps[i].shape[1]), f"{layer}.1", relu=False)
                y = F.interpolate(y, scale_factor=2 ** (j - i), mode="bilinear", align_corners=False)
                y = up(y, maps[i].shape[2:])
            for k in range(i - j):
                last = k == i - j - 1
                y = ref.conv(y, f"{layer}.{k}.0", maps[i].shape[1] if last else maps[j].shape[1], 3, stride=2)
                y = ref.bn(y, f"{layer}.{k}.1", relu=not last)
            total = total + y
        fused.append(total.relu())
    return fused


def hrnet(ref, x, prefix, widths, stem_width):
    for i in (1, 2):
        x = ref.bn(ref.conv(x, f"{prefix}conv{i}", stem_width, 3, stride=2), f"{prefix}bn{i}")
    for j in range(4):
        x = bottleneck(ref, x, f"{prefix}layer1.{j}", stem_width, shortcut=j == 0)
    maps = [x]
    for stage, modules in zip((2, 3, 4), (1, 4, 3), strict=True):
        name = f"{prefix}transition{stage - 1}"
        new = ref.conv(maps[-1], f"{name}.{stage - 1}.0.0", widths[stage - 1], 3, stride=2)
        new = ref.bn(new, f"{name}.{stage - 1}.0.1")
        if stage == 2:
            maps = [ref.bn(ref.conv(x, f"{name}.0.0", widths[0], 3), f"{name}.0.1")]
        maps = [*maps, new]
        for m in range(modules):
            maps = hr_module(ref, maps, f"{prefix}stage{stage}.{m}")
    return maps


def fcn_hrnet(ref, images, num_classes, widths=(48, 96, 192, 384), stem_width=64):
    maps = hrnet(ref, normalise(images), "backbone.", widths, stem_width)
    x = torch.cat([up(y, maps[0].shape[2:]) for y in maps], 1)
    x = ref.conv_module(x, "decode_head.convs.0", sum(widths))
    return up(ref.conv(x, "decode_head.conv_seg", num_classes, bias=True), images.shape[2:])


def attention(q, k, v, heads):
    """(B, N, C), (B, M, C), (B, M, C) -> (B, N, C), head by head."""
    width = q.shape[-1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(width)
        parts.append(scores.softmax(-1) @ v[..., own])
    return torch.cat(parts, -1)


def mix_transformer(ref, x, prefix, width, depths):
    maps = []
    for i, (heads, reduction) in enumerate(zip((1, 2, 5, 8), (8, 4, 2, 1), strict=True)):
        c = width * heads
        k, stride = (7, 4) if i == 0 else (3, 2)
        x = ref.conv(x, f"{prefix}layers.{i}.0.projection", c, k, stride=stride, bias=True)
        size = x.shape[2:]
        t = ref.ln(x.flatten(2).transpose(1, 2), f"{prefix}layers.{i}.0.norm", 1e-6)
        for j in range(depths[i]):
            name = f"{prefix}layers.{i}.1.{j}"
            n = ref.ln(t, f"{name}.norm1", 1e-6)
            seen = n
            if reduction > 1:
                grid = n.transpose(1, 2).reshape(len(n), c, *size)
                grid = ref.conv(grid, f"{name}.attn.sr", c, reduction, stride=reduction, bias=True, padding=0)
                seen = ref.ln(grid.flatten(2).transpose(1, 2), f"{name}.attn.norm", 1e-6)
            weight = ref.param(f"{name}.attn.attn.in_proj_weight", 3 * c, c, scale=1 / math.sqrt(c))
            bias = ref.param(f"{name}.attn.attn.in_proj_bias", 3 * c, scale=0.1)
            q, k_, v = (y @ w.T + b for y, w, b in zip((n, seen, seen), weight.chunk(3), bias.chunk(3), strict=True))
            t = t + ref.linear(attention(q, k_, v, heads), f"{name}.attn.attn.out_proj", c)
            n = ref.ln(t, f"{name}.norm2", 1e-6).transpose(1, 2).reshape(len(t), c, *size)
            n = ref.conv(n, f"{name}.ffn.layers.0", 4 * c, bias=True)
            n = F.gelu(ref.conv(n, f"{name}.ffn.layers.1", 4 * c, 3, groups=4 * c, bias=True))
            t = t + ref.conv(n, f"{name}.ffn.layers.4", c, bias=True).flatten(2).transpose(1, 2)
        t = ref.ln(t, f"{prefix}layers.{i}.2", 1e-6)
        x = t.transpose(1, 2).reshape(len(t), c, *size)
        maps.append(x)
    return maps


def segformer(ref, images, num_classes, depths=(2, 2, 2, 2), width=32, channels=256):
    maps = mix_transformer(ref, normalise(images), "backbone.", width, depths)
    parts = [up(ref.conv_module(y, f"decode_head.convs.{i}", channels), maps[0].shape[2:]) for i, y in enumerate(maps)]
    x = ref.conv_module(torch.cat(parts, 1), "decode_head.fusion_conv", channels)
    return up(ref.conv(x, "decode_head.conv_seg", num_classes, bias=True), images.shape[2:])


def convnext_block(ref, x, name):
    y = ref.conv(x, f"{name}.dwconv", x.shape[1], 7, groups=x.shape[1], bias=True).permute(0, 2, 3, 1)
    y = F.gelu(ref.linear(ref.ln(y, f"{name}.norm", 1e-6), f"{name}.pwconv1", 4 * x.shape[1]))
    y = ref.param(f"{name}.gamma", x.shape[1]) * ref.linear(y, f"{name}.pwconv2", x.shape[1])
    return x + y.permute(0, 3, 1, 2)


def convnext(ref, x, prefix, width, depths):
    maps = []
    for i, depth in enumerate(depths):
        name = f"{prefix}downsample_layers.{i}"
        if i == 0:
            for k, out in ((0, width // 2), (3, width)):
                x = ref.conv(x, f"{name}.stem.{k}", out, 3, stride=2, bias=True)
                x = F.gelu(ref.ln2d(x, f"{name}.stem.{k + 1}"))
        else:
            x = ref.ln2d(x, f"{name}.0")
            x = ref.conv(x, f"{name}.1", width * 2**i, 2, stride=2, bias=True, padding=0)
        for j in range(depth):
            x = convnext_block(ref, x, f"{prefix}stages.{i}.{j}")
        maps.append(ref.ln2d(x, f"{prefix}norm{i}"))
    return maps


def upernet(ref, images, num_classes, depths=(3, 3, 9, 3), width=96, channels=512):
    maps = convnext(ref, images.double(), "backbone.", width, depths)
    norm = {"norm": "batch_norm"}
    x = pyramid(ref, maps[3], "decode_head.psp_modules", channels, **norm)
    levels = [ref.conv_module(y, f"decode_head.lateral_convs.{i}", channels, **norm) for i, y in enumerate(maps[:3])]
    levels.append(ref.conv_module(x, "decode_head.bottleneck", channels, 3, **norm))
    for i in (2, 1, 0):
        levels[i] = levels[i] + up(levels[i + 1], levels[i].shape[2:])
    for i in range(3):
        levels[i] = ref.conv_module(levels[i], f"decode_head.fpn_convs.{i}", channels, 3, **norm)
    x = torch.cat([up(y, levels[0].shape[2:]) for y in levels], 1)
    x = ref.conv_module(x, "decode_head.fpn_bottleneck", channels, 3, **norm)
    auxiliary_head(ref, maps, num_classes, classifier="classifier", **norm)
    return up(ref.conv(x, "decode_head.classifier", num_classes, bias=True), images.shape[2:])


def vit_block(ref, x, name, heads):
    qkv = ref.linear(ref.ln(x, f"{name}.norm1", 1e-5), f"{name}.attn.qkv", 3 * x.shape[-1])
    x = x + ref.linear(attention(*qkv.chunk(3, -1), heads), f"{name}.attn.proj", x.shape[-1])
    y = F.gelu(ref.linear(ref.ln(x, f"{name}.norm2", 1e-5), f"{name}.mlp.fc1", 4 * x.shape[-1]))
    return x + ref.linear(y, f"{name}.mlp.fc2", x.shape[-1])


def segmenter(ref, images, num_classes, image_size=512, width=384, depth=12, decoder_depth=2):
    height, width_of_image = images.shape[2:]
    x = F.pad(images.double(), (0, -width_of_image % 16, 0, -height % 16))
    padded = x.shape[2:]
    x = ref.conv(x, "encoder.patch_embed.proj", width, 16, stride=16, bias=True, padding=0)
    h, w = x.shape[2:]
    grid = image_size // 16
    cls = ref.param("encoder.cls_token", 1, 1, width)
    positions = ref.param("encoder.pos_embed", 1, 1 + grid**2, width)
    if h * w != grid**2:
        patches = positions[0, 1:].reshape(1, grid, grid, width).permute(0, 3, 1, 2)
        patches = up(patches, (h, w)).permute(0, 2, 3, 1).reshape(1, h * w, width)
        positions = torch.cat([positions[:, :1], patches], 1)
    x = torch.cat([cls.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + positions
    for i in range(depth):
        x = vit_block(ref, x, f"encoder.blocks.{i}", width // 64)
    x = ref.ln(x, "encoder.norm", 1e-5)
    ref.linear(x[:, 0], "encoder.head", 1000)
    x = ref.linear(x[:, 1:], "decoder.proj_dec", width)
    x = torch.cat([x, ref.param("decoder.cls_emb", 1, num_classes, width).expand(len(x), -1, -1)], 1)
    for i in range(decoder_depth):
        x = vit_block(ref, x, f"decoder.blocks.{i}", width // 64)
    x = ref.ln(x, "decoder.decoder_norm", 1e-5)
    patches = x[:, :-num_classes] @ ref.param("decoder.proj_patch", width, width)
    classes = x[:, -num_classes:] @ ref.param("decoder.proj_classes", width, width)
    cosines = (patches / patches.norm(dim=-1, keepdim=True)) @ (classes / classes.norm(dim=-1, keepdim=True)).transpose(
        1, 2
    )
    masks = ref.ln(cosines, "decoder.mask_norm", 1e-5).transpose(1, 2).reshape(len(x), num_classes, h, w)
    return up(masks, padded)[..., :height, :width_of_image]


def semseg_backbone(ref, x, depth, stem, width):
    if stem == "deep":
        for i, out in zip((0, 3, 6), (width, width, 2 * width), strict=True):
            x = ref.bn(ref.conv(x, f"layer0.{i}", out, 3, stride=2 if i == 0 else 1), f"layer0.{i + 1}")
    else:
        x = ref.bn(ref.conv(x, "layer0.0", width, 7, stride=2), "layer0.1")
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    return residual_stages(ref, x, "", depth, width, contract=False)


def two_convs(ref, x, name, channels, out, k):
    x = ref.bn(ref.conv(x, f"{name}.0", channels, k), f"{name}.1")
    return ref.conv(x, f"{name}.4", out, bias=True)


def semseg(ref, images, num_classes, *, head, ddcat=False, normalized=True, depth=50, stem="deep", width=64, channels):
    """PSPNet (`head="ppm"`) or DeepLabV3 (`head="aspp"`), its heads those of DDC-AT if asked."""
    x = normalise(images) if normalized else images.double()
    stages = semseg_backbone(ref, x, depth, stem, width)
    x = stages[3]
    if head == "ppm":
        k, out = 3, x.shape[1] // 4
        pooled = []
        for i, scale in enumerate((1, 2, 3, 6)):
            y = ref.conv(F.adaptive_avg_pool2d(x, scale), f"ppm.features.{i}.1", out)
            pooled.append(up(ref.bn(y, f"ppm.features.{i}.2"), x.shape[2:], True))
        x = torch.cat([x, *pooled], 1)
    else:
        k = 1
        parts = [ref.bn(ref.conv(x, "aspp.convs.0.0", channels), "aspp.convs.0.1")]
        for i, rate in enumerate((6, 12, 18), start=1):
            y = ref.conv(x, f"aspp.convs.{i}.0", channels, 3, dilation=rate)
            parts.append(ref.bn(y, f"aspp.convs.{i}.1"))
        y = ref.bn(ref.conv(x.mean((2, 3), keepdim=True), "aspp.convs.4.1", channels), "aspp.convs.4.2")
        x = torch.cat([*parts, y.expand(-1, -1, *x.shape[2:])], 1)
    two_convs(ref, stages[2], "aux_cls1" if ddcat else "aux", 256, num_classes, k)
    if ddcat:
        two_convs(ref, x, "cls2", channels, num_classes, k)
        two_convs(ref, x, "mask1", channels, 2, k)
    return up(two_convs(ref, x, "cls1" if ddcat else "cls", channels, num_classes, k), images.shape[2:], True)
