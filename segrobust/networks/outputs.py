"""Names of what networks of libraries return, and how a choice of it is shown."""

from collections.abc import Mapping

QUERY_NAMES = (
    ("class_queries_logits", "masks_queries_logits"),
    ("pred_logits", "pred_masks"),
    ("logits", "pred_masks"),
)
"""Class and mask logits of queries: in transformers, in the original code, and in transformers' DETR."""


def query_names(entries: Mapping[str, object]) -> tuple[str, str] | None:
    """Names of the class and mask logits of queries, if these are among the entries; they may be None in others."""
    return next((names for names in QUERY_NAMES if all(entries.get(name) is not None for name in names)), None)


def require_name(output: object) -> None:
    """Refuses a function that `repr` could not identify.

    Raises:
        ValueError: a lambda, or an object without a name.
    """
    shown = shown_output(output)
    if "<lambda>" in shown or " at 0x" in shown:
        raise ValueError(
            f"output={shown} has no name that would identify it in a run: define a function by `def` and give that"
        )


def shown_output(output: object) -> str:
    """The choice as `repr` shows it: a function by its module and name, which are the same in every process."""
    name = getattr(output, "__qualname__", None)
    return repr(output) if name is None else f"{getattr(output, '__module__', None)}.{name}"
