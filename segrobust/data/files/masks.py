"""Mask files: one integer or one colour per pixel, as it is written, from pictures and arrays."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from segrobust.data.files.images import Size
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.npy_files import npy_form, read_npy
from segrobust.untrusted.pictures import FORMATS, opened_picture, raw_mode, too_large

MASK_SUFFIXES: Final = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".npy"})
"""Formats that keep every value."""

LOSSY_SUFFIXES: Final = frozenset(FORMATS) - MASK_SUFFIXES
"""Formats that may change values, in which masks are refused."""

INDEX_MODES: Final = frozenset({"L", "P"})
"""Pillow modes of masks of published data sets: class indices of 8 bits."""

COLOR_MODES: Final = frozenset({"RGB"})
"""Those of published masks in colours."""

Values = npt.NDArray[np.integer[Any]]
"""What is written in a mask, `(H, W)`: uint8, uint16 or int64; of colours int32 as `value_table.pack` makes them."""

_GREYS: Final = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F"})
_COLORS: Final = frozenset({"RGB", "RGBA", "LA", "PA"})
_GREY_STEPS: Final = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies greys of 2 and 4 bits, so that they fill the range of 8 bits."""

_WHITE_IS_ZERO: Final = 0
_PHOTOMETRIC: Final = 262


def mask_size(path: Path, modes: frozenset[str] | None) -> Size:
    """`(H, W)` of a mask by its header; nothing is decoded.

    Args:
        path: of the mask.
        modes: Pillow modes that it may have; all that are read when None.

    Raises:
        DataFault: the header cannot be read, states too many pixels, or a kind of file that no mask is read from.
    """
    if path.suffix.lower() == ".npy":
        return _map_size(npy_form(path)[0], path)
    with opened_picture(path) as picture:
        _check_kind(picture, path)
        if modes is not None and picture.mode not in modes:
            needed = "one 8-bit channel of class indices" if modes == INDEX_MODES else "RGB, one colour per class"
            raise DataFault(f"{path} has mode {picture.mode}; a mask of this data set is {needed}", kind="mode")
        return picture.size[1], picture.size[0]


def read_values(path: Path) -> Values:
    """The integers of a mask, `(H, W)`, as they are written: of a palette picture the indices, not the colours.

    Args:
        path: a picture of one channel of 1, 2, 4, 8, 16 or 32 bits; one in colours whose channels are equal; or an
            array `(H, W)` of integers, booleans, or floating-point numbers that are integers.

    Raises:
        DataFault: the file cannot be decoded, is too large, or of another kind.
    """
    if path.suffix.lower() == ".npy":
        stored = read_npy(path)
        return _integers(stored.reshape(_map_size(stored.shape, path)), path)
    with opened_picture(path) as picture:
        _check_kind(picture, path)
        if picture.mode in _COLORS:
            return _equal_channels(_opaque(picture, path), path)
        step = _GREY_STEPS.get(raw_mode(picture), 1)
        return _integers(np.array(picture), path) // step


def read_colors(path: Path) -> Values:
    """The colours of a mask, `(H, W)` int32 of `value_table.pack`; those of its palette where it has one.

    Raises:
        DataFault: the file cannot be decoded, is too large, or has no colours of 8 bits.
    """
    if path.suffix.lower() == ".npy":
        raise _no_colors(path, "is an array")
    with opened_picture(path) as picture:
        _check_kind(picture, path)
        if picture.mode[0] in "IF":
            raise _no_colors(path, f"has one channel of mode {picture.mode}")
        rgb = _opaque(picture, path)
    code = rgb[..., 0].astype(np.int32)
    for channel in (1, 2):
        code <<= 8
        code |= rgb[..., channel]
    return code


def is_colored(path: Path) -> bool:
    """Whether a mask has several channels, by its header.

    Raises:
        DataFault: as `mask_size`.
    """
    if path.suffix.lower() == ".npy":
        return False
    with opened_picture(path) as picture:
        return picture.mode in _COLORS


def how_stored(path: Path) -> str:
    """How the integers of a mask differ from what viewers show, by its header; empty where they do not.

    Raises:
        DataFault: as `mask_size`.
    """
    if path.suffix.lower() == ".npy":
        return ""
    with opened_picture(path) as picture:
        if picture.mode == "P":
            return "The mask has a palette, and its indices are read; give `values` as colours to read its colours"
        return "The mask is of 1 bit, whose values are 0 and 1" if picture.mode == "1" else ""


def _check_kind(picture: Image.Image, path: Path) -> None:
    """Refuses what has no single integer or colour per pixel, or one that readers disagree about."""
    if getattr(picture, "is_animated", False):
        raise DataFault(f"{path} holds several pictures, and a mask is one; save the one that counts", kind="mode")
    if picture.mode not in _GREYS | _COLORS:
        raise DataFault(
            f"{path} has mode {picture.mode}; a mask has one channel of integers, or RGB colours of 8 bits", kind="mode"
        )
    if picture.mode in _COLORS and ";16" in raw_mode(picture):
        raise DataFault(
            f"{path} has several channels of 16 bits, of which 8 would be read; save one channel of 16 bits, or "
            f"colours of 8",
            kind="mode",
        )
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise DataFault(
            f"{path} is a TIFF in which white is zero, whose values some readers turn around; save it with black as "
            f"zero (photometric interpretation 1)",
            kind="mode",
        )


def _opaque(picture: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """The pixels as RGB, `(H, W, 3)`, where none is transparent."""
    if picture.mode in ("RGBA", "LA", "PA"):
        rgba = np.array(picture.convert("RGBA"))
        clear = np.count_nonzero(rgba[..., 3] != 255)
        if clear:
            raise DataFault(
                f"{path} has mode {picture.mode}, and {clear} of {rgba[..., 3].size} pixels are transparent; save the "
                f"mask without alpha, with a value of its own where there is no class",
                kind="mode",
            )
        return rgba[..., :3]
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def _equal_channels(rgb: npt.NDArray[np.uint8], path: Path) -> Values:
    """The grey value of pixels without colour."""
    colored = (rgb != rgb[..., :1]).any(-1)
    if colored.any():
        red, green, blue = rgb[colored][0].tolist()
        raise DataFault(
            f"{path} is in colours, such as [{red}, {green}, {blue}]; write the colour of each class in classes.yaml, "
            f"`values: [[{red}, {green}, {blue}], ...]`, or let `segrobust data init` write that file",
            kind="mode",
        )
    return rgb[..., 0]


def _integers(values: npt.NDArray[Any], path: Path) -> Values:
    """Values as uint8, uint16 or int64, without change."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and (values == np.rint(values)).all() and (np.abs(values) < 2**53).all()):
            raise DataFault(f"{path} holds numbers that are not integers; a mask holds classes", kind="mode")
    elif values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(values.dtype.newbyteorder("="))
    elif values.dtype == np.uint64 and (values >= 2**63).any():
        raise DataFault(f"{path} holds integers above 2 ** 63", kind="mode")
    return values.astype(np.int64)


def _map_size(shape: tuple[int, ...], path: Path) -> Size:
    """`(H, W)` of an array; axes of length 1 before or after them are left out."""
    trimmed = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    trimmed = trimmed[:-1] if len(trimmed) == 3 and trimmed[-1] == 1 else trimmed
    if len(trimmed) != 2 or 0 in trimmed:
        raise DataFault(f"{path} has the shape {shape}; a mask is an array (H, W) of classes", kind="mode")
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and trimmed[0] * trimmed[1] > most:
        raise too_large(path, f"the mask has {trimmed[0] * trimmed[1]} pixels, the limit is {most} pixels.")
    return trimmed[0], trimmed[1]


def _no_colors(path: Path, what: str) -> DataFault:
    return DataFault(
        f"{path} {what} and no colours, and classes.yaml gives `values` as colours; give them as integers", kind="mode"
    )
