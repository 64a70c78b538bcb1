"""The result of an attack as a table for notebooks, without its tensors."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from segrobust.attacks.core.attack import AttackResult

_HEAD: Final = ("image", "broken", "norm", "norm x 255", "pixels broken, %", "forwards", "backwards")
_MOST: Final = 64
"""Rows; a cell of a notebook is no place for more."""


def result_table(result: "AttackResult") -> str:
    """A row per image, as HTML: whether it is broken, its norm in image units and times 255, APSR, and passes."""
    columns = (result.success, result.norm, result.apsr, result.num_forwards, result.num_backwards)
    rows = zip(*(values[:_MOST].tolist() for values in columns), strict=True)
    lines = [
        (
            str(index),
            "yes" if success else "no",
            f"{norm:.4g}",
            f"{255 * norm:.4g}",
            f"{100 * apsr:.2f}",
            *map(str, passes),
        )
        for index, (success, norm, apsr, *passes) in enumerate(rows)
    ]
    shape = " x ".join(map(str, result.adv.shape))
    more = f", the first {_MOST} of them" if len(result.success) > _MOST else ""
    broken = f"{int(result.success.sum())} of {len(result.success)} images broken{more}; adv is {shape}"
    return f"<p>{broken}</p><table>{_row('th', _HEAD)}{''.join(_row('td', line) for line in lines)}</table>"


def _row(tag: str, cells: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"
