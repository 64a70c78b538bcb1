"""Names of Lightning's arguments, read in its source, because its import takes seconds."""

import ast
from importlib.util import find_spec
from pathlib import Path


def argument_names_in_source(file: str, name: str) -> tuple[str, ...]:
    """Names of the arguments of a class.

    Args:
        file: in the folder of Lightning.
        name: of the class.

    Returns:
        The names; empty if the class is not there.
    """
    found = find_spec("lightning")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    source = next((path for path in (Path(folder) / file for folder in folders) if path.is_file()), None)
    classes = ast.parse(source.read_text(encoding="utf-8")).body if source is not None else []
    body = next((node.body for node in classes if isinstance(node, ast.ClassDef) and node.name == name), [])
    start = next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    return () if start is None else tuple(each.arg for each in (*start.args.args[1:], *start.args.kwonlyargs))
