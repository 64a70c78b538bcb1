"""One image under attack as tiles: the perturbation, and the predictions with and without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segrobust.attacks.targets import TargetMaps
from segrobust.functional.display import ChannelView
from segrobust.label_space import Color, LabelSpace

Pixels = npt.NDArray[np.uint8]
TileName = Literal["image", "adversarial", "perturbation", "errors", "target", "truth", "clean", "prediction"]

NEWLY_WRONG: Final[Color] = (213, 94, 0)  # vermilion and sky blue differ for all kinds of colour vision
WRONG_BEFORE: Final[Color] = (86, 180, 233)
VOID: Final[Color] = (0, 0, 0)
_AMPLIFICATIONS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class Tile:
    """A captioned picture `(H, W, 3)` uint8; class maps are never smoothed."""

    name: TileName
    caption: str
    pixels: Pixels
    smooth: bool

    def resized(self, size: tuple[int, int]) -> Image.Image:
        """The picture at a size `(width, height)`."""
        enlarged = size[0] > self.pixels.shape[1]
        resampling = Image.Resampling.LANCZOS if self.smooth and not enlarged else Image.Resampling.NEAREST
        return Image.fromarray(self.pixels).resize(size, resampling)


@dataclass(frozen=True)
class Tiles:
    """All tiles of one image under one attack, the factor of the perturbation, and names of the colours."""

    tiles: tuple[Tile, ...]
    factor: int
    legend: tuple[tuple[str, Color], ...]


def make_tiles(
    image: Tensor,
    adv: Tensor,
    mask: Tensor,
    clean_prediction: Tensor,
    adv_prediction: Tensor,
    label_space: LabelSpace,
    target_maps: TargetMaps | None = None,
    *,
    bands: Sequence[int] | None = None,
    stretched: bool = False,
) -> Tiles:
    """Image, adversarial image, their difference, newly wrong pixels; ground truth, clean and adversarial prediction.

    The difference is amplified by a round factor about mid-grey, which is zero. For an attack with targets, the target
    map replaces the newly wrong pixels: pixels to keep are pale, and pixels that do not count are void.

    Args:
        image: `(C, H, W)` in [0, 1].
        adv: `(C, H, W)` in [0, 1].
        mask: `(H, W)` integers, ground truth with void.
        clean_prediction: `(H, W)` integers.
        adv_prediction: `(H, W)` integers.
        label_space: names and colours.
        target_maps: targets and pixels to keep, `(H, W)` each.
        bands: channels that are shown; see `ChannelView.of`.
        stretched: whether contrast is stretched, of both images alike.

    Raises:
        ValueError: bands that the image does not have, shapes that do not match, or labels outside the label space.
    """
    _check_shapes(image, adv, mask, clean_prediction, adv_prediction)
    image, adv = image.detach().float().cpu(), adv.detach().float().cpu()
    mask, clean, now = (classes.detach().cpu() for classes in (mask, clean_prediction, adv_prediction))
    factor = _amplification((adv - image).abs().max().item())
    right_before, right_now = clean == mask, now == mask
    valid = mask != label_space.ignore_index
    view = ChannelView.of(image, bands, stretched=stretched)
    if target_maps is None:
        fourth = Tile(
            "errors", "newly wrong pixels", _errors(view.rgb(image), valid, right_before, right_now), smooth=False
        )
    else:
        caption = "target" if target_maps.keep_mask is None else "target; pale: to keep"
        fourth = Tile("target", caption, _target(target_maps, valid, label_space), smooth=False)
    first = f"image, {view.note}" if view.note else "image"
    tiles = (
        Tile("image", first, _to_pixels(view.rgb(image)), smooth=True),
        Tile("adversarial", "adversarial image", _to_pixels(view.rgb(adv)), smooth=True),
        Tile(
            "perturbation",
            f"perturbation x {factor}, grey is zero",
            _to_pixels(view.difference(adv, image, factor)),
            smooth=False,
        ),
        fourth,
        Tile("truth", "ground truth", label_space.colorize(mask).numpy(), smooth=False),
        Tile("clean", "prediction, clean", label_space.colorize(clean).numpy(), smooth=False),
        Tile("prediction", "prediction, adversarial", label_space.colorize(now).numpy(), smooth=False),
    )
    wanted = (
        [] if target_maps is None else target_maps.targets[target_maps.targets != label_space.ignore_index].tolist()
    )
    shown = sorted({*mask[valid].tolist(), *clean[valid].tolist(), *now[valid].tolist(), *wanted})
    entries = [("newly wrong", NEWLY_WRONG), ("wrong before and now", WRONG_BEFORE)]
    if target_maps is not None:
        entries = [] if target_maps.targeted else [("to be broken", NEWLY_WRONG)]
    return Tiles(tiles, factor, tuple(_legend(label_space, shown, entries, has_void=not valid.all())))


def _legend(
    label_space: LabelSpace, classes: Sequence[int], entries: list[tuple[str, Color]], *, has_void: bool
) -> list[tuple[str, Color]]:
    """Some entries first, then void and the classes that occur."""
    if has_void:
        entries.append(("void", VOID))
    return entries + [(label_space.names[index], label_space.palette[index]) for index in classes]


def _errors(image: Tensor, valid: Tensor, right_before: Tensor, right_now: Tensor) -> Pixels:
    """Wrong pixels in colour over a pale grey picture, `(3, H, W)`; void is black."""
    grey = _to_pixels(0.55 + 0.45 * image.mean(0, keepdim=True))
    for where, color in (
        (valid & right_before & ~right_now, NEWLY_WRONG),
        (valid & ~right_before & ~right_now, WRONG_BEFORE),
        (~valid, VOID),
    ):
        grey[where.numpy()] = color
    return grey


def _target(target_maps: TargetMaps, valid: Tensor, label_space: LabelSpace) -> Pixels:
    """Targets in the colours of their classes, pixels to keep in pale colours, untargeted pixels in vermilion."""
    targets = target_maps.targets.cpu().masked_fill(~valid, label_space.ignore_index)
    colors = np.array(label_space.colorize(targets).numpy())
    counts = targets != label_space.ignore_index
    keep_mask = torch.zeros_like(counts) if target_maps.keep_mask is None else target_maps.keep_mask.cpu() & counts
    if not target_maps.targeted:
        colors[(counts & ~keep_mask).numpy()] = NEWLY_WRONG
    colors[keep_mask.numpy()] = 165 + (colors[keep_mask.numpy()] * 0.35).astype(np.uint8)
    return colors


def _to_pixels(image: Tensor) -> Pixels:
    """`(1, H, W)` or `(3, H, W)` in [0, 1] to `(H, W, 3)` in 0..255."""
    pixels = (image.clamp(0, 1) * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0)
    return np.array(pixels.numpy())


def _amplification(largest: float) -> int:
    """The largest round factor that keeps the difference inside mid-grey plus or minus one half."""
    fitting = [factor for factor in _AMPLIFICATIONS if factor * largest <= 0.5]
    return fitting[-1] if fitting and largest > 0 else 1


def _check_shapes(image: Tensor, adv: Tensor, *maps: Tensor) -> None:
    shapes = [tuple(classes.shape) for classes in maps]
    if adv.shape != image.shape or set(shapes) != {tuple(image.shape[1:])}:
        raise ValueError(
            f"image {tuple(image.shape)}, adversarial image {tuple(adv.shape)} and class maps {shapes} differ in size"
        )
