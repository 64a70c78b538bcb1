"""`segrobust data init`: proposes the file of classes of a folder of images and masks."""

from collections.abc import Sequence
from pathlib import Path

from segrobust.cli.commands import program
from segrobust.cli.console import say, without_traceback
from segrobust.cli.parsers import parse
from segrobust.data.datasets.folder import ALL
from segrobust.data.datasets.folder_file import FILE_NAME
from segrobust.data.first_look.layouts import Layout, find_layout
from segrobust.data.first_look.measured import look_at_images
from segrobust.data.first_look.proposal import propose
from segrobust.data.first_look.written import look_into
from segrobust.untrusted.data_fault import DataFault


def init_command(arguments: Sequence[str]) -> None:
    """Looks at a folder of images and masks, and writes and prints its `classes.yaml`, with what it guessed.

    Args:
        arguments: what follows `data init` on the command line.
    """
    options = parse("data init", arguments)
    root, path = options.root, options.root / FILE_NAME
    with without_traceback(ValueError, OSError, ImportError):
        if not root.is_dir():
            raise DataFault(f"there is no folder {root}", kind="layout")
        if path.is_symlink() or (path.exists() and not options.overwrite):
            raise DataFault(f"{path} is there already; --overwrite replaces it, unless it is a link", kind="layout")
        layout = find_layout(root)
        pairs = _some_pairs(root, layout, options.masks)
        masks = [mask for _, mask in pairs]
        proposal = propose(layout, look_into(masks), masks, look_at_images(pairs))
        path.write_text(proposal.text, encoding="utf-8")
    say(proposal.text)
    say(f"wrote    {path}, by a look into {len(masks)} masks; what it guessed:")
    for guess in proposal.guesses:
        say(f"         {guess}")
    likeliest = [split for split in ("val", "valid", "validation", "test") if split in layout.splits]
    split = [*likeliest, *layout.splits, ALL][0]
    check = f"{program().removesuffix(' init')} check"
    say(f"next     {check} --data Folder --data.root {root} --data.split {split} --picture look.png")
    experiment = f"{{class_path: segrobust.data.Folder, init_args: {{root: {root}, split: {split}}}}}"
    say(f"then     `val: {experiment}` in the data of an experiment file, for train.py and evaluate.py")


def _some_pairs(root: Path, layout: Layout, most: int) -> list[tuple[Path, Path]]:
    """Images and masks of all splits, spread evenly."""
    splits = layout.splits if not layout.list and layout.splits else (ALL,)
    found = []
    for split in splits:
        images, masks = layout.images.files(root, split, "images"), layout.masks.files(root, split, "masks")
        found += [(images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
    number = min(len(found), most)
    return [found[place * len(found) // number] for place in range(number)]
