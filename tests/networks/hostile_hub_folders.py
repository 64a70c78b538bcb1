"""Folders of networks that somebody made to do harm, and the process that loads each of them; one line of JSON each.

Arguments: the folder to write to, and parts of names to be run alone.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEEP = b"[" * 100_000
PICKLE = b"cposix\nsystem\n(S'touch owned'\ntR."
WEIGHTS = "model.safetensors"
BESIDE = {"hf": "preprocessor_config.json", "smp": "albumentations_config_eval.json"}


@dataclass(frozen=True)
class HostileFolder:
    """A folder: the library of its network, how it is changed, and a pattern of the error; empty if it is loaded."""

    library: str
    change: Callable[[Path], object]
    says: str


FOLDERS: dict[str, HostileFolder] = {}
"""By name."""


def add(library: str, name: str, change: Callable[[Path], object], says: str = "") -> None:
    assert f"{library}: {name}" not in FOLDERS, name
    FOLDERS[f"{library}: {name}"] = HostileFolder(library, change, says)


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def fifo(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink() or os.mkfifo(folder / name)


def sparse(name: str) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, 3 * 2**30)


def edited(name: str, **values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **values}))

    return change


def normalised(**values: object) -> Callable[[Path], object]:
    """The one step of a pipeline of albumentations."""
    step = {"__class_fullname__": "Normalize", "mean": [0.4] * 3, "std": [0.2] * 3, "max_pixel_value": 255.0}
    return edited(BESIDE["smp"], transform={"__class_fullname__": "Compose", "transforms": [{**step, **values}]})


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


_ONE = '{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,%d]}}'
_DAMAGED = r"is a damaged or truncated|of another architecture|lacks \d+ weights|takes? more memory|begins with"
for _library, _beside in BESIDE.items():
    for _name in ("config.json", _beside):
        _says = _name.replace(".", r"\.")
        add(_library, f"{_name}: a pipe", fifo(_name), r"named pipe")
        add(_library, f"{_name}: bytes", put(_name, b"\xff\xfe"), rf"{_says} is not text in UTF-8")
        add(_library, f"{_name}: a list", put(_name, b"[]"), rf"{_says} must hold a JSON object")
        add(_library, f"{_name}: too deep", put(_name, DEEP), r"nested too deeply")
        add(_library, f"{_name}: nan", put(_name, b'{"a": NaN}'), r"NaN is no number")
        add(_library, f"{_name}: a key twice", put(_name, b'{"a": 1, "a": 2}'), r"occurs twice")
        add(_library, f"{_name}: 3 GB of nothing", sparse(_name), r"has at most")
    add(_library, "no settings", put("config.json", b"{}"), r"the module is not known")
    add(_library, "weights: a pipe", fifo(WEIGHTS), r"named pipe")
    for _label, _content in {
        "nothing": b"",
        "html": b"<!doctype html>" * 9,
        "a pickle": PICKLE,
        "too deep": header(b'{"a":' + DEEP),
        "a header of 2**63 bytes": header(b"{}", 2**63),
        "no tensor": header(b"{}"),
        "a shape of 2**62": header((_ONE % ("2147483648,2147483648", 4)).encode()) + bytes(4),
        "offsets beyond the end": header((_ONE % ("1", 2**40)).encode()) + bytes(4),
    }.items():
        add(_library, f"weights: {_label}", put(WEIGHTS, _content), rf"{_DAMAGED}|describes a network|is empty|HTML")
    add(_library, "a pickle beside the weights", put("pytorch_model.bin", PICKLE))
    add(_library, "code beside the weights", put("modeling.py", b"raise SystemExit\n"))

_TAKES = r"has settings that \S+( \S+)* does not take"
for _label, _values, _says in (
    ("layers of 100000", {"hidden_sizes": [100_000, 100_000]}, r"more weights than its files"),
    ("a billion layers", {"depths": [10**9, 1]}, r"at most 1048576"),
    ("100000 layers", {"depths": [10**5, 1]}, r"more weights than its files"),
    ("a million classes", {"num_labels": 10**6}, r"at most 4096"),
    ("numbers of classes with gaps", {"id2label": {"0": "a", "7": "b", "9": "c"}}, _TAKES),
    ("classes with escapes", {"id2label": {str(number): "\x1b[2J" for number in range(3)}}, ""),
    ("an image of a million rows", {"image_size": 10**6}, r"at most 4096"),
    ("100000 channels", {"num_channels": 10**5}, r"at most 4096"),
    ("code as type", {"model_type": "os.system"}, _TAKES),
    ("a number as type", {"model_type": 5}, _TAKES),
    ("a network of text", {"model_type": "bert"}, _TAKES),
    ("code of the folder", {"auto_map": {"AutoModelForSemanticSegmentation": "modeling.Net"}}, ""),
    ("a kernel of the hub", {"attn_implementation": "someone/kernel"}, r"fetch from elsewhere and run"),
    ("kernels of the hub", {"_attn_implementation": {"": "someone/kernel"}}, r"fetch from elsewhere and run"),
    ("attention of a package", {"attn_implementation": "flash_attention_2"}, r"fetch from elsewhere and run"),
    ("a quantization", {"quantization_config": {"quant_method": "bitsandbytes"}}, r"fetch from elsewhere and run"),
    ("sizes of text", {"hidden_sizes": "abc"}, _TAKES),
    ("no sizes", {"depths": None}, _TAKES),
    ("no heads", {"num_attention_heads": [0, 0]}, _TAKES),
    ("steps of 0", {"strides": [0, 0]}, r"its network takes no image|does not take"),
    ("a module as type of numbers", {"dtype": "os"}, _TAKES),
    ("a function of Python", {"hidden_act": "__import__"}, _TAKES),
    ("a backbone of elsewhere", {"backbone": "resnet18", "use_timm_backbone": True}, r"looked up elsewhere"),
):
    add("hf", _label, edited("config.json", **_values), _says)
add("hf", "an adapter", put("adapter_config.json", b'{"base_model_name_or_path": "/"}'), r"weights of another place")
for _label, _values, _says in (
    ("a mean of text", {"image_mean": "a"}, _TAKES),
    ("a std of 0", {"image_std": [0, 0, 0]}, r"std must be positive"),
    ("a factor of text", {"rescale_factor": "x"}, _TAKES),
    ("a factor of 0", {"rescale_factor": 0}, _TAKES),
    ("code as type", {"image_processor_type": "os.system"}, r"does not take|Unrecognized image processor"),
    ("an image of a million rows", {"size": {"height": 10**6, "width": 10**6}}, r"at most 4096"),
    ("code of the folder", {"auto_map": {"AutoImageProcessor": "modeling.Net"}}, ""),
):
    add("hf", f"processor: {_label}", edited(BESIDE["hf"], **_values), _says)
for _label, _values, _says in (
    ("code as class", {"_model_class": "os.system"}, r"names the architecture"),
    ("a list as class", {"_model_class": ["Unet"]}, _TAKES),
    ("an encoder of elsewhere", {"encoder_name": "tu-hf_hub:a/b"}, r"read from elsewhere"),
    ("a number as encoder", {"encoder_name": 7}, _TAKES),
    ("an encoder of a gigabyte", {"encoder_name": "tu-vit_giant_patch14_clip_224"}, r"more weights than its files"),
    ("a billion classes", {"classes": 10**9}, r"at most 4096"),
    ("a label of the image of a billion classes", {"aux_params": {"classes": 10**9}}, r"at most 4096"),
    ("classes of text", {"classes": "x"}, _TAKES),
    ("classes below 0", {"classes": -1}, _TAKES),
    ("100000 channels", {"in_channels": 10**5}, r"at most 4096"),
    ("a decoder of 100000 channels", {"decoder_channels": [10**5] * 5}, r"more weights than its files"),
    ("a depth of a million", {"encoder_depth": 10**6}, _TAKES),
    ("a file of weights", {"encoder_name": "tu-resnet18", "checkpoint_path": "/x.pth"}, r"read from elsewhere"),
    ("weights of an address", {"encoder_name": "tu-resnet18", "pretrained_cfg": {"url": "x"}}, r"read from elsewhere"),
    ("a package that is not there", {"decoder_use_norm": "inplace"}, _TAKES),
    ("attention of code", {"decoder_attention_type": "os"}, _TAKES),
):
    add("smp", _label, edited("config.json", **_values), _says)
for _label, _values, _says in (
    ("a largest value of 0", {"max_pixel_value": 0}, _TAKES),
    ("a largest value of text", {"max_pixel_value": "x"}, _TAKES),
    ("a mean of text", {"mean": ["a"] * 3}, _TAKES),
    ("a mean that is a number", {"mean": 0.5}, _TAKES),
    ("a std of 0", {"std": [0, 0, 0]}, r"std must be positive"),
):
    add("smp", f"normalisation: {_label}", normalised(**_values), _says)


def save_whole(folder: Path) -> None:
    """A small network of each library."""
    import segmentation_models_pytorch as smp
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from segrobust.networks import FullResolution, Normalized, save_network

    settings = SegformerConfig(
        num_labels=3, depths=[1, 1], num_encoder_blocks=2, sr_ratios=[2, 1], hidden_sizes=[8, 8], patch_sizes=[3, 3],
        strides=[2, 2], num_attention_heads=[1, 1], mlp_ratios=[1, 1], decoder_hidden_size=8,
    )  # fmt: skip
    encoder = "timm-mobilenetv3_small_minimal_100"
    unet = smp.Unet(encoder, encoder_weights=None, classes=3, decoder_channels=(8, 8, 8, 8, 8))
    assert save_network(Normalized(FullResolution(SegformerForSemanticSegmentation(settings))), folder / "hf")
    assert save_network(Normalized(unet), folder / "smp")


def main(folder: Path, parts: list[str]) -> None:
    from reference_monitor import Growth, Monitor, interrupt_hangs, limit_memory, outcome, say

    from segrobust.networks import load_network

    folder.mkdir()
    os.chdir(folder)
    interrupt_hangs()
    save_whole(folder)
    monitor, case = Monitor(folder), folder / "case"
    for library in BESIDE:
        say(name=f"whole {library}", said=outcome(lambda library=library: load_network(str(folder / library))))
    limit_memory(8 * 2**30)
    for name, entry in FOLDERS.items():
        if parts and not any(part in name for part in parts):
            continue
        shutil.copytree(folder / entry.library, case)
        entry.change(case)
        growth, started = Growth(), time.process_time()
        monitor.found, monitor.on = [], True
        said = outcome(lambda: load_network(str(case)))
        monitor.on = False
        seconds = time.process_time() - started
        say(name=name, said=said, monitor=monitor.found, mebibytes=growth.mebibytes, seconds=seconds)
        shutil.rmtree(case)
    say(name="owned", said=str((folder / "owned").exists()))
    monitor.found, monitor.on = [], True
    subprocess.run(["true"], check=True)
    monitor.on = False
    say(name="what the monitor must see", monitor=monitor.found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
