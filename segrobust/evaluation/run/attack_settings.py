"""The settings of an attack from the text that identifies it, as a configuration that `evaluate` reads."""

import ast
import math
from dataclasses import fields, is_dataclass
from typing import Any, Final

import segrobust.attacks
from segrobust.attacks import Attack
from segrobust.attacks.core.identity import identity, identity_digest
from segrobust.untrusted.printable import shortened

_LONGEST: Final = 2**14
_DEEPEST: Final = 32


def attack_settings(text: str, digest: str) -> dict[str, Any]:
    """The class path and arguments of an attack of this package. Nothing in the text is run.

    Args:
        text: identity of the attack; see `segrobust.attacks.core.identity`.
        digest: of the identity, which an attack with these settings must have.

    Raises:
        ValueError: another class, an argument that is no plain value, or settings that give another attack.

    Examples:
        >>> text = identity(segrobust.attacks.FGSM(eps=0.5))
        >>> attack_settings(text, identity_digest(text))["class_path"]
        'segrobust.attacks.FGSM'
    """
    try:
        node = ast.parse(_limited(text), mode="eval").body
        attack = _built(node)
        same = isinstance(attack, Attack) and identity_digest(identity(attack)) == digest
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{shortened(text)} is no attack of segrobust: {error}") from error
    if not same:
        raise ValueError(f"{shortened(text)} does not give the attack {digest} again: it has settings that are no text")
    settings: dict[str, Any] = _written(attack)
    return settings


def _limited(text: str) -> str:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(depth, deepest)
    if len(text) > _LONGEST or deepest > _DEEPEST:
        raise ValueError(f"{shortened(text)} is too long or too deeply nested for the settings of an attack")
    return text


def _built(node: ast.expr) -> Any:
    """The value of an expression of plain values, and of dataclasses that `segrobust.attacks` exports."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        kind = getattr(segrobust.attacks, node.func.id, None) if node.func.id in segrobust.attacks.__all__ else None
        if not (isinstance(kind, type) and is_dataclass(kind)):
            raise ValueError(f"{shortened(node.func.id)} is no class of segrobust.attacks with settings")
        settable = {field.name for field in fields(kind) if field.init}
        return kind(**{each.arg: _built(each.value) for each in node.keywords if each.arg in settable})
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_built(node.operand)
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.Tuple):
        return tuple(map(_built, node.elts))
    if isinstance(node, ast.List):
        return [*map(_built, node.elts)]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _built(key): _built(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None
        }
    raise ValueError(f"{shortened(ast.unparse(node))} is no plain value")


def _written(value: Any) -> Any:
    """A value as YAML writes it."""
    if is_dataclass(value) and not isinstance(value, type):
        given = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        return {"class_path": f"segrobust.attacks.{type(value).__name__}", "init_args": _written(given)}
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list | tuple) else value
