"""Tiny networks of transformers that classify masks or read texts, with random weights, as the library saves them."""

from collections.abc import Callable

import torch
from networks.saved import transformers
from torch import Tensor, nn

CLASSES = 5
QUERIES = 10
SIDE = 64
"""Height and width of images of networks that take one size."""


def _swin():
    return transformers().SwinConfig(
        image_size=SIDE,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def mask2former(num_classes=CLASSES):
    hf = transformers()
    config = hf.Mask2FormerConfig(
        backbone_config=_swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=QUERIES,
        num_labels=num_classes,
    )
    return hf.Mask2FormerForUniversalSegmentation(config), hf.Mask2FormerImageProcessor(do_resize=False)


def maskformer():
    hf = transformers()
    decoder = hf.DetrConfig(
        encoder_layers=1,
        decoder_layers=2,
        d_model=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=QUERIES,
        num_labels=CLASSES,
    )
    config = hf.MaskFormerConfig(
        backbone_config=_swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, num_labels=CLASSES
    )
    return hf.MaskFormerForInstanceSegmentation(config), hf.MaskFormerImageProcessor(do_resize=False)


def oneformer():
    hf = transformers()
    config = hf.OneFormerConfig(
        backbone_config=_swin(),
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=QUERIES,
        query_dec_layers=1,
        query_dec_input_dim=64,
        query_hidden_dim=64,
        text_encoder_width=32,
        text_encoder_num_layers=1,
        num_labels=CLASSES,
        is_training=False,
    )
    processor = hf.OneFormerImageProcessor(do_resize=False)
    return hf.OneFormerForUniversalSegmentation(config), hf.OneFormerProcessor(processor, clip_tokenizer())


def _eomt_settings():
    return {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_blocks": 2,
        "image_size": SIDE,
        "patch_size": 8,
        "num_upscale_blocks": 1,
        "num_queries": QUERIES,
        "num_labels": CLASSES,
    }


def eomt():
    hf = transformers()
    network = hf.EomtForUniversalSegmentation(hf.EomtConfig(**_eomt_settings(), mlp_ratio=2))
    return network, hf.EomtImageProcessor(do_resize=False, size={"shortest_edge": SIDE, "longest_edge": SIDE})


def eomt_dinov3():
    hf = transformers()
    network = hf.EomtDinov3ForUniversalSegmentation(hf.EomtDinov3Config(**_eomt_settings(), intermediate_size=32))
    return network, hf.EomtImageProcessor(do_resize=False, size={"shortest_edge": SIDE, "longest_edge": SIDE})


def detr():
    hf = transformers()
    backbone = hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = hf.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        backbone=None,
        encoder_layers=1,
        decoder_layers=1,
        d_model=128,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=QUERIES,
        num_labels=CLASSES,
    )
    return hf.DetrForSegmentation(config), hf.DetrImageProcessor(do_resize=False)


def clipseg():
    hf = transformers()
    text = hf.CLIPSegTextConfig(
        vocab_size=600,
        bos_token_id=598,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=16,
        eos_token_id=599,
    )
    vision = hf.CLIPSegVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    config = hf.CLIPSegConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    processor = hf.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    return hf.CLIPSegForImageSegmentation(config), hf.CLIPSegProcessor(processor, clip_tokenizer())


def clip_tokenizer():
    """A tokenizer of CLIP whose vocabulary is the bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    letters += [f"{letter}</w>" for letter in letters]
    vocabulary = {token: index for index, token in enumerate(letters)}
    vocabulary |= {"<|startoftext|>": 598, "<|endoftext|>": 599}
    return transformers().CLIPTokenizer(vocab=vocabulary, merges=[])


MASK_LAYERS = ("mask_embedder.2.0", "mask_embed.layers.2.0", "mask_head.fc3")
"""Ends of the names of the layers whose outputs, one per query, are multiplied with the features of pixels."""


def contrasted(network: nn.Module, run: Callable[[nn.Module], object]) -> nn.Module:
    """Changes a random network so that its queries differ in class and mask, as those of a trained one do.

    Args:
        network: has nearly the same class and mask for all queries.
        run: calls it on images.
    """
    network.eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):  # attention that differs from query to query
                weight.mul_(8)
            if "quer" in name and len(weight) == QUERIES:
                weight.copy_(3 * torch.randn(weight.shape))
    layers = [
        layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and (layer.out_features == CLASSES + 1 or name.endswith(MASK_LAYERS))
    ]
    for layer in layers:
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda module, args, output, outputs=outputs: outputs.append(output))
        with torch.no_grad():
            run(network)
            hook.remove()
            last = outputs[-1].flatten(0, -2)
            factor = 6 / last.std(0).clamp_min(1e-6)
            layer.weight.mul_(factor[:, None])
            layer.bias.copy_(factor * (layer.bias - last.mean(0)))
    return network


def blobs(height: int, width: int, count: int = 2) -> torch.Tensor:
    """Smooth images of bytes in [0, 1]: `(count, 3, height, width)`."""
    generator = torch.Generator().manual_seed(1)
    coarse = 6 * torch.randn(count, 3, 5, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear").sigmoid()
    return (255 * smooth).round() / 255
