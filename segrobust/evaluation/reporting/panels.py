"""One image under attack as a picture: what was changed, what the network saw before and sees now."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from segrobust.evaluation.records import Record
from segrobust.evaluation.reporting.tables import norm_text, percent, radius_text
from segrobust.label_space import Color, LabelSpace

Pixels = npt.NDArray[np.uint8]

_SMALLEST, _LARGEST = 320, 640  # width of a tile in pixels
_MARGIN, _CAPTION, _FONT, _TITLE_FONT = 12, 26, 15, 19
_INK: Final[Color] = (34, 34, 34)
_NEWLY_WRONG: Final[Color] = (213, 94, 0)  # vermilion and sky blue stay apart for all kinds of colour vision
_WRONG_BEFORE: Final[Color] = (86, 180, 233)
_VOID: Final[Color] = (0, 0, 0)
_AMPLIFICATIONS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

_OKABE_ITO: Final[tuple[Color, ...]] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
    (153, 153, 153),
)
"""Colours that people of all kinds of colour vision tell apart (Okabe and Ito, 2008), grey in the place of black."""


def draw_panel(
    image: Tensor,
    adv: Tensor,
    mask: Tensor,
    clean_prediction: Tensor,
    adv_prediction: Tensor,
    *,
    label_space: LabelSpace,
    title: str,
) -> Image.Image:
    """Draws eight tiles under a title.

    Image, adversarial image, their difference, newly wrong pixels; ground truth, clean and adversarial prediction,
    legend. The difference is amplified by a round factor, printed above it, about mid-grey, which is zero. Small images
    are enlarged by whole factors without smoothing; wide ones are reduced.

    Args:
        image: `(C, H, W)` in [0, 1], C = 1 or 3.
        adv: `(C, H, W)` in [0, 1].
        mask: `(H, W)` integers, ground truth with void.
        clean_prediction: `(H, W)` integers.
        adv_prediction: `(H, W)` integers.
        label_space: names and colours.
        title: printed on top; see `panel_title`.

    Raises:
        ValueError: another number of channels, shapes that do not match, or labels outside the label space.
    """
    _check_shapes(image, adv, mask, clean_prediction, adv_prediction)
    image, adv = image.detach().float().cpu(), adv.detach().float().cpu()
    mask, clean, now = (classes.detach().cpu() for classes in (mask, clean_prediction, adv_prediction))
    factor = _amplification((adv - image).abs().max().item())
    right_before, right_now = clean == mask, now == mask
    valid = mask != label_space.ignore_index
    tiles = (
        _Tile("image", _to_pixels(image), smooth=True),
        _Tile("adversarial image", _to_pixels(adv), smooth=True),
        _Tile(f"perturbation x {factor}, grey is zero", _to_pixels(0.5 + factor * (adv - image)), smooth=False),
        _Tile("newly wrong pixels", _errors(image, valid, right_before, right_now), smooth=False),
        _Tile("ground truth", label_space.colorize(mask).numpy(), smooth=False),
        _Tile("prediction, clean", label_space.colorize(clean).numpy(), smooth=False),
        _Tile("prediction, adversarial", label_space.colorize(now).numpy(), smooth=False),
    )
    shown = sorted({*mask[valid].tolist(), *clean[valid].tolist(), *now[valid].tolist()})
    return _compose(tiles, _legend_entries(label_space, shown, has_void=not valid.all()), title)


def panel_title(record: Record) -> str:
    """Attack, image, norm and shares of broken pixels, as the title of a panel."""
    norm_name = record.norm_name or "linf"
    budget = f" at eps {radius_text(record.eps, norm_name)}" if isinstance(record.eps, float) else ""
    name = "l_inf" if norm_name == "linf" else norm_name
    outcome = "failed" if math.isinf(record.norm) else f"{name} norm {norm_text(record.norm, norm_name)}"
    return (
        f"{record.attack}{budget}   |   image {record.sample_id}: {record.sample_name}   |   {outcome}   |   "
        f"broken pixels (APSR) {percent(record.apsr)} %, clean {percent(record.clean_apsr)} %"
    )


def plain_label_space(num_classes: int, ignore_index: int) -> LabelSpace:
    """Numbered classes in colours that are told apart by all, for data sets without a label space.

    Up to 8 classes have colours of Okabe and Ito; further ones the same in other lightness.
    """
    rounds = [1.0, 0.6, 0.35]
    colors = [_scaled(_OKABE_ITO[i % 8], rounds[i // 8 % 3]) for i in range(num_classes)]
    names = tuple(f"class {index}" for index in range(num_classes))
    return LabelSpace(names=names, palette=tuple(colors), ignore_index=ignore_index)


@dataclass(frozen=True)
class _Tile:
    """A captioned picture `(H, W, 3)` uint8; class maps are never smoothed."""

    caption: str
    pixels: Pixels
    smooth: bool

    def resized(self, size: tuple[int, int]) -> Image.Image:
        enlarged = size[0] > self.pixels.shape[1]
        resampling = Image.Resampling.LANCZOS if self.smooth and not enlarged else Image.Resampling.NEAREST
        return Image.fromarray(self.pixels).resize(size, resampling)


def _compose(tiles: Sequence[_Tile], legend: Sequence[tuple[str, Color]], title: str) -> Image.Image:
    """Four tiles and three, and the legend in the last place."""
    height, width = tiles[0].pixels.shape[:2]
    scale = -(-_SMALLEST // width) if width < _SMALLEST else min(1.0, _LARGEST / width)
    size = (round(width * scale), max(1, round(height * scale)))
    font, title_font = ImageFont.load_default(_FONT), ImageFont.load_default(_TITLE_FONT)
    total = 4 * size[0] + 5 * _MARGIN
    lines = _wrap(title, title_font, total - 2 * _MARGIN)
    top = _MARGIN + len(lines) * (_TITLE_FONT + 7)
    row_height = size[1] + _CAPTION + _MARGIN
    canvas = Image.new("RGB", (total, top + 2 * row_height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for index, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + index * (_TITLE_FONT + 7)), line, fill=_INK, font=title_font)
    for index in range(8):
        x = _MARGIN + index % 4 * (size[0] + _MARGIN)
        y = top + index // 4 * row_height
        caption = tiles[index].caption if index < len(tiles) else "legend"
        draw.text((x, y + 5), caption, fill=_INK, font=font)
        if index < len(tiles):
            canvas.paste(tiles[index].resized(size), (x, y + _CAPTION))
        else:
            _draw_legend(draw, legend, (x, y + _CAPTION), size, font)
    return canvas


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    entries: Sequence[tuple[str, Color]],
    corner: tuple[int, int],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Swatches with names in columns, as many as fit."""
    line = _FONT + 7
    per_column = max(1, size[1] // line)
    columns = max(1, min(-(-len(entries) // per_column), size[0] // 150))
    step, room = size[0] // columns, per_column * columns
    if len(entries) > room:
        entries = [*entries[: room - 1], (f"and {len(entries) - room + 1} more", (255, 255, 255))]
    for index, (name, color) in enumerate(entries):
        x, y = corner[0] + index // per_column * step, corner[1] + index % per_column * line
        draw.rectangle((x, y + 2, x + _FONT, y + 2 + _FONT), fill=color, outline=_INK if sum(color) < 765 else None)
        draw.text((x + _FONT + 7, y), _shortened(name, font, step - _FONT - 12), fill=_INK, font=font)


def _legend_entries(label_space: LabelSpace, classes: Sequence[int], *, has_void: bool) -> list[tuple[str, Color]]:
    """Errors first, then void and the classes that occur."""
    entries = [("newly wrong", _NEWLY_WRONG), ("wrong before and now", _WRONG_BEFORE)]
    if has_void:
        entries.append(("void", _VOID))
    return entries + [(label_space.names[index], label_space.palette[index]) for index in classes]


def _errors(image: Tensor, valid: Tensor, right_before: Tensor, right_now: Tensor) -> Pixels:
    """Wrong pixels in colour over a pale grey image; void is black."""
    grey = _to_pixels(0.55 + 0.45 * image.mean(0, keepdim=True))
    for where, color in (
        (valid & right_before & ~right_now, _NEWLY_WRONG),
        (valid & ~right_before & ~right_now, _WRONG_BEFORE),
        (~valid, _VOID),
    ):
        grey[where.numpy()] = color
    return grey


def _to_pixels(image: Tensor) -> Pixels:
    """`(C, H, W)` in [0, 1] to `(H, W, 3)` in 0..255."""
    pixels = (image.clamp(0, 1) * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0)
    return np.array(pixels.numpy())


def _amplification(largest: float) -> int:
    """The largest round factor that keeps the difference inside mid-grey plus or minus one half."""
    fitting = [factor for factor in _AMPLIFICATIONS if factor * largest <= 0.5]
    return fitting[-1] if fitting and largest > 0 else 1


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines no wider than `width`, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = (round(channel * factor) for channel in color)
    return red, green, blue


def _check_shapes(image: Tensor, adv: Tensor, *maps: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"a panel shows images (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    shapes = [tuple(classes.shape) for classes in maps]
    if adv.shape != image.shape or set(shapes) != {tuple(image.shape[1:])}:
        raise ValueError(
            f"image {tuple(image.shape)}, adversarial image {tuple(adv.shape)} and class maps {shapes} differ in size"
        )
