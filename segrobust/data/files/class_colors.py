"""Colours of classes: those of PASCAL VOC, and those for a data set that gives none."""

from segrobust.label_space import Color


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Colours that all differ and are not black; those of the first 255 classes are far from it.

    Those of `voc_color` without its colour 0, black, which is left to void.
    """
    return tuple(voc_color(index + 1) for index in range(num_classes))


def voc_color(index: int) -> Color:
    """The colour of a label in the masks of the PASCAL VOC challenge (VOC development kit, `VOClabelcolormap`).

    The bits of the label are dealt to the highest free bits of red, green and blue in turn.
    """
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue
