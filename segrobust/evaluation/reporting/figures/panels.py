"""One image under attack as a picture: the perturbation, and the predictions with and without it."""

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from segrobust.evaluation.reporting.figures.tiles import Tiles
from segrobust.evaluation.reporting.format import norm_text, percent, radius_text
from segrobust.evaluation.reporting.sensor_units import with_units
from segrobust.evaluation.run.records import Record
from segrobust.label_space import Color, LabelSpace
from segrobust.value_range import ValueRange

_SMALLEST, _LARGEST = 320, 640  # width of a tile in pixels
_MARGIN, _CAPTION, _FONT, _TITLE_FONT = 12, 26, 15, 19
_INK: Final[Color] = (34, 34, 34)

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
"""Colours for all kinds of colour vision (Okabe and Ito, 2008), with grey instead of black."""


def panel_title(record: Record, value_range: ValueRange | None = None) -> str:
    """Attack, image, norm and shares of broken pixels, as the title of a panel."""
    norm_name = record.norm_name or "linf"
    budget = ""
    if isinstance(record.eps, float):
        budget = f" at eps {with_units(radius_text, record.eps, norm_name, value_range)}"
    name = "l_inf" if norm_name == "linf" else norm_name
    norm = with_units(norm_text, record.norm, norm_name, value_range)
    outcome = "failed" if math.isinf(record.norm) else f"{name} norm {norm}"
    return (
        f"{record.attack}{budget}   |   image {record.sample_id}: {record.sample_name}   |   {outcome}   |   "
        f"broken pixels (APSR) {percent(record.apsr)} %, clean {percent(record.clean_apsr)} %"
    )


def plain_label_space(num_classes: int, ignore_index: int) -> LabelSpace:
    """Numbered classes in distinct colours, for data sets without a label space.

    Up to 8 classes have the colours of Okabe and Ito; further ones have them in another lightness.
    """
    rounds = [1.0, 0.6, 0.35]
    colors = [_scaled(_OKABE_ITO[i % 8], rounds[i // 8 % 3]) for i in range(num_classes)]
    names = tuple(f"class {index}" for index in range(num_classes))
    return LabelSpace(names=names, palette=tuple(colors), ignore_index=ignore_index)


def compose(parts: Tiles, title: str) -> Image.Image:
    """Four tiles and three under a title, and the legend in the last place."""
    tiles = parts.tiles
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
            _draw_legend(draw, parts.legend, (x, y + _CAPTION), size, font)
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
