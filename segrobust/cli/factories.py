"""Functions that make networks, named by class path although they do not declare what they return."""

import importlib
import inspect
import re

from torch import nn

_REFUSED = re.compile(r"Import path (\S+) does not correspond to a subclass of Module")


def declare_factory(message: str) -> bool:
    """Declares that the function which a message of the parser refuses returns a network.

    The parser takes a function by its class path only if its return annotation is a network. Most functions of others
    have none.

    Args:
        message: of the parser.

    Returns:
        Whether there is such a function, so that parsing again may succeed.
    """
    refused = _REFUSED.search(message)
    if refused is None:
        return False
    module, _, name = refused[1].rpartition(".")
    function = inspect.unwrap(getattr(importlib.import_module(module), name))
    if not inspect.isfunction(function) or "return" in function.__annotations__:
        return False
    function.__annotations__["return"] = nn.Module
    return True
