"""Networks built from what a checkpoint says about itself."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from segrobust.networks import FullResolution, Normalized, build_network, load_weights, read_metadata, save_weights

CONV = {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 2, "kernel_size": [1, 1]}}
NESTED = {
    "class_path": "segrobust.networks.FullResolution",
    "init_args": {
        "network": {
            "class_path": "segrobust.networks.Normalized",
            "init_args": {"network": CONV, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        },
        "stride": 4,
    },
}


@pytest.fixture
def foreign_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that leaves a trace when it is imported; gives the trace."""
    witness = tmp_path / "imported"
    (tmp_path / "foreign_nets").mkdir()
    (tmp_path / "foreign_nets" / "__init__.py").write_text(
        f"from torch import nn\nopen({str(witness)!r}, 'w').close()\nclass Net(nn.Conv2d): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield witness
    sys.modules.pop("foreign_nets", None)


def test_a_nested_network_is_built_and_takes_weights(tmp_path: Path) -> None:
    original = FullResolution(Normalized(nn.Conv2d(3, 2, 1), mean=(0.5,) * 3, std=(0.25,) * 3), stride=4)
    save_weights(original, tmp_path / "a.safetensors", metadata={"network": json.dumps(NESTED)})
    network = build_network(json.loads(read_metadata(tmp_path / "a.safetensors")["network"]))
    load_weights(network, tmp_path / "a.safetensors")
    assert repr(network) == repr(original)
    images = torch.rand(1, 3, 5, 6)
    assert network(images).equal(original(images))


def test_libraries_are_allowed() -> None:
    spec = {
        "class_path": "segmentation_models_pytorch.FPN",
        "init_args": {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3},
    }
    assert build_network(spec).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "spec",
    [
        {"class_path": "foreign_nets.Net", "init_args": {}},
        {"class_path": "segrobust.networks.Normalized", "init_args": {"network": {"class_path": "foreign_nets.Net"}}},
        {"class_path": "torch.nn.Conv2d", "init_args": {"a": [{"b": {"class_path": "foreign_nets.Net"}}]}},
        {"class_path": "torch.nn.Conv2d", "init_args": {"a": {"class_path": "torch.nn.ReLU",
         "init_args": {"b": {"class_path": "foreign_nets.Net"}}}}},
    ],
)  # fmt: skip
def test_a_foreign_package_is_not_imported(foreign_package: Path, spec: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not imported; .*--allow-import foreign_nets$") as caught:
        build_network(spec)
    assert "foreign_nets.Net" in str(caught.value)
    assert "segrobust, torch.nn, torchvision.models, segmentation_models_pytorch, timm" in str(caught.value)
    assert "foreign_nets" not in sys.modules
    assert not foreign_package.exists()


def test_the_flag_allows_it(foreign_package: Path) -> None:
    spec = {"class_path": "foreign_nets.Net", "init_args": CONV["init_args"]}
    network = build_network(spec, allow=("segrobust", "foreign_nets"))
    assert isinstance(network, nn.Conv2d)
    assert foreign_package.exists()


@pytest.mark.parametrize(
    ("class_path", "flag"),
    [
        ("torch.hub.load", "torch.hub"),
        ("os.system", "os"),
        ("builtins.eval", "builtins"),
        ("segrobust_evil.Net", "segrobust_evil"),
        ("torch.nnx.Net", "torch.nnx"),
        ("torchvision.io.read_image", "torchvision.io"),
    ],
)
def test_neighbours_of_allowed_packages_are_foreign(class_path: str, flag: str) -> None:
    with pytest.raises(ValueError, match=f"--allow-import {re.escape(flag)}$"):
        build_network({"class_path": class_path, "init_args": {}})


@pytest.mark.parametrize(
    "class_path",
    [
        "torch.nn.functional.torch.hub.load",
        "torch.nn.functional.importlib.import_module",
        "segrobust.networks.checkpoints.os.system",
        "segrobust.networks.no_such_module.Net",
    ],
)
def test_modules_are_not_reached_through_what_they_import(class_path: str) -> None:
    with pytest.raises(ValueError, match="cannot be imported"):
        build_network({"class_path": class_path, "init_args": {}})


@pytest.mark.parametrize(
    "class_path",
    [
        "torch.nn.functional.relu",
        "torch.nn.functional.torch",
        "torch.nn.Parameter",
        "torch.nn.Missing",
        "torchvision.models.get_model",
        "timm.create_model",
        "segrobust.networks.load_weights",
        "segrobust.networks.checkpoints.Path",
    ],
)
def test_only_classes_of_networks_are_called(class_path: str) -> None:
    with pytest.raises(ValueError, match="no class of networks"):
        build_network({"class_path": class_path, "init_args": {}})


def test_a_class_imported_from_elsewhere_counts_as_where_it_is_defined() -> None:
    spec = {"class_path": "torchvision.models.detection.faster_rcnn.MultiScaleRoIAlign", "init_args": {}}
    with pytest.raises(ValueError, match=r"is defined in torchvision\.ops\.poolers.*--allow-import"):
        build_network(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_path": "Conv2d"}, "package.module.Class"),
        ({"class_path": "torch.nn.Conv2d()"}, "package.module.Class"),
        ({"class_path": ".nn.Conv2d"}, "package.module.Class"),
        ({"class_path": 3}, "got 3"),
        ({"class_path": "torch.nn.ReLU", "args": {}}, "'args'"),
        ({"class_path": "torch.nn.ReLU", "init_args": [1]}, "a mapping 'init_args'"),
        ({"init_args": {}}, "needs a 'class_path'"),
    ],
)
def test_malformed_specifications_are_explained(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(spec)
