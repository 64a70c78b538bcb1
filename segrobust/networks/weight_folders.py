"""Folders of weights: which of their files holds them, and files in shards."""

import re
from pathlib import Path

from segrobust.untrusted.documents import read_json
from segrobust.untrusted.printable import shortened

_INDEX = ".index.json"

_KINDS = (
    *(f"*.safetensors{_INDEX}", f"*.bin{_INDEX}"),
    *("*.safetensors", "pytorch_model*.bin", "*.ckpt", "*.pth", "*.pt"),
)
"""Files of weights in a folder; the first kind that occurs counts, as the others hold the same weights."""

_DEEPSPEED = ("zero_to_fp32.py", "*model_states.pt", "*/*model_states.pt")


_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
"""What the name of one of several shards holds."""


def is_shard(path: Path) -> bool:
    """Whether a file is one of several shards, by its name."""
    return _SHARD.search(path.name) is not None


def is_index(path: Path) -> bool:
    """Whether a file is the index of a file in shards, by its name."""
    return path.name.endswith(_INDEX)


def find_file(path: Path) -> Path:
    """Gives the file of weights, or the index of its shards, that lies in a folder; a file itself as it is.

    Raises:
        ValueError: the folder holds no file of weights, several of one kind, or the parts of a distributed training.
    """
    if not path.is_dir():
        return path
    _refuse_distributed(path)
    found = next((files for kind in _KINDS if (files := sorted(path.glob(kind)))), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{path} holds several files of weights; name one: {', '.join(map(str, found[:5]))}")
    raise ValueError(f"{path} is a folder without a file of weights; expected one of {', '.join(_KINDS)}")


def _refuse_distributed(path: Path) -> None:
    """Refuses the parts that the processes of a training wrote, with the command that makes one file of them."""
    if any(next(path.glob(name), None) for name in _DEEPSPEED):
        kind, command = "DeepSpeed", f"{path}/zero_to_fp32.py {path} weights"
    elif next(path.glob("*.distcp"), None) is None:
        return
    elif (path / "meta.pt").exists():
        kind, command = "Lightning's FSDP", f"-m lightning.pytorch.utilities.consolidate_checkpoint {path}"
    else:
        kind = "torch.distributed.checkpoint (FSDP)"
        command = f"-m torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pth"
    raise ValueError(f"{path} holds the parts of a checkpoint of {kind}; put them together first: python {command}")


def read_index(index: Path) -> dict[Path, list[str]]:
    """Gives the shards that an index lists, and the names of the tensors of each.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: it is no index, or names files outside its folder.
    """
    content = read_json(index, "an index of shards")
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{index} is no index of shards: it has no 'weight_map' of names of tensors to files")
    shards: dict[Path, list[str]] = {}
    for name, file in listed.items():
        if not isinstance(file, str) or Path(file).name != file or is_index(Path(file)):
            raise ValueError(f"{index} names the shard {shortened(file)}; expected the name of a file in its folder")
        shards.setdefault(index.parent / file, []).append(name)
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{index} lists {len(shards)} shards, of which {len(missing)} are missing: {', '.join(missing[:5])}; copy "
            f"or download them into {index.parent}"
        )
    return shards
