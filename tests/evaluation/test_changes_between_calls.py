"""One change between two calls on one run directory: it is refused with its name, or it has no effect on the numbers.

Both calls are shares of a run of three processes, of which the third never comes, so that no report is written.
"""

import contextlib
import json
import shutil
from dataclasses import dataclass, field

import pytest
import torch
from evaluation.toy import NUM_CLASSES, ToyScenes
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.utils import parametrizations, parametrize

from segrobust.attacks import EOT, PGD, Restarts, SegPGD, Targeted, Untargeted
from segrobust.attacks.targets import Constant, LabelMap, write_label_map
from segrobust.evaluation import Distributed, evaluate, read_records
from segrobust.evaluation.engine.work import choose_samples
from segrobust.label_space import LabelSpace
from segrobust.networks import Normalized

EPS = 24 / 255
CRITERION = Untargeted(apsr=0.9)


@dataclass(frozen=True, kw_only=True)
class Hidden(PGD):
    """An attack with a field that neither its repr nor a comparison shows."""

    scale: float = field(default=1.0, repr=False, compare=False)


class Block(nn.Module):
    """Convolutions with what usual networks have: normalisation, dropout, a setting that no repr shows."""

    def __init__(self, slope=0.1, scale=1.0, strength=0.0):
        super().__init__()
        self.scale, self.strength = scale, strength
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.LeakyReLU(slope)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(6, NUM_CLASSES, 1)
        self.register_buffer("prior", torch.zeros(NUM_CLASSES, 1, 1), persistent=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double()

    def forward(self, images):
        if self.strength:
            images = images + self.strength * torch.randn_like(images)
        return self.head(self.drop(self.act(self.norm(self.stem(images))))) * self.scale + self.prior


class OtherForward(Block):
    def forward(self, images):
        return super().forward(images.flip(3)).flip(3)


class Rewritten(Block):
    def forward(self, images):
        return super().forward(images) ** 3


Rewritten.__qualname__, Rewritten.__module__ = Block.__qualname__, Block.__module__


class Adapted(Block):
    """An adapter of low rank that can be switched off, as those of fine-tuning libraries."""

    def __init__(self, enabled):
        super().__init__()
        self.enabled = enabled
        self.down, self.up = nn.Conv2d(3, 1, 1).double(), nn.Conv2d(1, NUM_CLASSES, 1).double()
        for parameter in (*self.down.parameters(), *self.up.parameters()):
            nn.init.constant_(parameter, 0.5)

    def forward(self, images):
        return super().forward(images) + (self.up(self.down(images)) if self.enabled else 0)


class Quantised(nn.Module):
    def __init__(self, network, levels, straight_through=True):
        super().__init__()
        self.network, self.levels, self.straight_through = network, levels, straight_through

    def forward(self, images):
        rounded = (images * self.levels).round() / self.levels
        return self.network(images + (rounded - images).detach() if self.straight_through else rounded)


def block(change=None, **settings):
    network = Block(**settings)
    if change is not None:
        change(network)
    return network


def weight(network):
    with torch.no_grad():
        network.head.weight[0, 0] += 1e-9


def statistics(network):
    network.norm.running_mean += 1e-6


def prior(network):
    network.prior[0] += 1e-6


def slower(network):
    network.norm.eps = 1e-1


def padded(network):
    network.stem = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect").double()
    network.stem.load_state_dict(Block().stem.state_dict())


def hooked(network):
    network.act.register_forward_hook(lambda _, inputs, output: output.clamp(max=1))


def patched(network):
    network.forward = lambda images: Block.forward(network, images.clamp(0.1, 0.9))


def masked_gradient(network):
    network.act.register_full_backward_hook(lambda _, inputs, outputs: (inputs[0] * (inputs[0] > 0),))


def dropping(network):
    network.drop.forward = lambda features: nn.functional.dropout(features, 0.2, training=True)


def reduced(network):
    network.stem.forward = lambda images: nn.functional.conv2d(
        images.bfloat16(), network.stem.weight.bfloat16(), network.stem.bias.bfloat16(), padding=1
    ).double()


def reparametrised(network):
    parametrizations.weight_norm(network.stem)


def merged(network):
    reparametrised(network)
    parametrize.remove_parametrizations(network.stem, "weight")


def no_gradients(network):
    network.requires_grad_(False)


class Scenes(ToyScenes):
    """`ToyScenes` whose fingerprint says nothing, with a change of what is read."""

    def __init__(self, change=None, num=6, order=None, **attributes):
        super().__init__(num)
        self.change, self.order = change, order or range(num)
        self.names = tuple(f"toy_{index}" for index in self.order)
        vars(self).update(attributes)

    def __getitem__(self, index):
        item = super().__getitem__(self.order[index])
        return item if self.change is None else self.change(item)

    def fingerprint(self):
        return "always the same"


def one_pixel(item):
    image = item["image"].clone()
    image[1, 2, 3] = image[1, 2, 3].nextafter(torch.tensor(2.0))
    return {**item, "image": image}


def one_label(item):
    mask = item["mask"].clone()
    mask[-1, -1] = (mask[-1, -1] + 1) % NUM_CLASSES
    return {**item, "mask": mask}


def no_void(item):
    return {**item, "mask": item["mask"].where(item["mask"] != 255, 0)}


def cropped(item):
    return {**item, "image": item["image"][:, 1:], "mask": item["mask"][1:]}


def mirrored(item):
    return {**item, "image": item["image"].flip(2), "mask": item["mask"].flip(1)}


def darker(item):
    return {**item, "image": item["image"] * 0.9}


def in_float64(item):
    return {**item, "image": item["image"].double()}


def noisy(item):
    return {**item, "image": (item["image"] + 0.01 * torch.rand(())).clamp(max=1)}


def space(*names, ignore_index=255):
    return LabelSpace(names=names, palette=((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)), ignore_index=ignore_index)


def pgd(**settings):
    return {"pgd": PGD(**{"num_steps": 3, "random_start": True, "criterion": CRITERION, **settings})}


def call(directory, rank, **changes):
    settings = {"network": Block(), "dataset": Scenes(), "attacks": pgd(), "eps": (EPS,), "checks": "off"} | changes
    network, dataset = settings.pop("network"), settings.pop("dataset")
    settings |= {"distributed": Distributed(rank=rank, world_size=3), "run_dir": directory}
    return evaluate(network, dataset, panels=0, progress=False, **settings)


def numbers(records):
    """What a record measured, without the bits that depend on kernels."""
    return {
        (record.sample_id, record.attack, record.eps): (
            *(record.success, record.num_valid, record.tp, record.fp, record.fn),
            *(pytest.approx(value, abs=1e-7, nan_ok=True) for value in (record.apsr, record.norm)),
        )
        for record in records
    }


def files_of(directory):
    files = (path for path in directory.rglob("*") if path.is_file() and path.parent.name != ".locks")
    return {path: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The directory of a first call."""
    directory = tmp_path_factory.mktemp("run") / "first"
    call(directory, 0)
    return directory


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of two calls without a change."""
    directory = tmp_path_factory.mktemp("run") / "whole"
    for rank in (0, 1):
        call(directory, rank)
    return numbers(read_records(directory))


SAMPLES = r"the image or the mask of 2 samples, 0 \(toy_0\), 3 \(toy_3\), is not the one"
LOGITS = "logits differ on the probe"
GRADIENTS = "gradients differ on the probe"

REFUSED = {
    # data
    "a bit of a pixel": ({"dataset": lambda: Scenes(one_pixel)}, SAMPLES),
    "a pixel of a mask": ({"dataset": lambda: Scenes(one_label)}, SAMPLES),
    "void": ({"dataset": lambda: Scenes(no_void)}, SAMPLES),
    "a crop": ({"dataset": lambda: Scenes(cropped)}, SAMPLES),
    "an augmentation": ({"dataset": lambda: Scenes(mirrored)}, SAMPLES),
    "a random augmentation": ({"dataset": lambda: Scenes(noisy)}, "each time that it is read: turn random augment"),
    "the range of images": ({"dataset": lambda: Scenes(darker)}, SAMPLES),
    "the precision of images": ({"dataset": lambda: Scenes(in_float64)}, SAMPLES),
    "the order of samples": ({"dataset": lambda: Scenes(order=[5, 4, 3, 2, 1, 0])}, r"of 2 samples, 0 \(toy_0\), 3 "),
    "a split": ({"dataset": lambda: Scenes(order=[1, 2, 3, 4, 5])}, r"of 2 samples, 0 \(toy_0\), 3 \(toy_3\)"),
    "recordings": ({"dataset": lambda: Scenes(sequences=("a",) * 3 + ("b",) * 3)}, "recording of sample 0 was its own"),
    "void's label": ({"ignore_index": 0}, "label of void pixels: 255 there, 0 now"),
    # network
    "a weight": ({"network": lambda: block(weight)}, "weights of the network: "),
    "statistics of a normalisation": ({"network": lambda: block(statistics)}, "weights of the network: "),
    "merged weights": ({"network": lambda: block(merged)}, "weights of the network: "),
    "another parametrisation": ({"network": lambda: block(reparametrised)}, "weights of the network: "),
    "float32": ({"network": lambda: Block().float()}, "precision: float64 there, float32 now"),
    "a buffer that is no weight": ({"network": lambda: block(prior)}, "buffers that are no weights: prior differ"),
    "a module setting": ({"network": lambda: Block(slope=0.2)}, r"module act: .*=0.1\) there, .*=0.2\) now"),
    "eps of a normalisation": ({"network": lambda: block(slower)}, r"module norm: .*eps=1e-05.* there"),
    "padding": ({"network": lambda: block(padded)}, "module stem: .*padding_mode=reflect"),
    "a setting that no repr shows": ({"network": lambda: Block(scale=1.01)}, LOGITS),
    "a subclass": ({"network": lambda: OtherForward()}, r"Block\(\) there, .*OtherForward\(\) now"),
    "other code": ({"network": lambda: Rewritten()}, LOGITS),
    "a hook": ({"network": lambda: block(hooked)}, LOGITS),
    "a replaced forward": ({"network": lambda: block(patched)}, LOGITS),
    "a part in reduced precision": ({"network": lambda: block(reduced)}, LOGITS),
    "a quantising defence": (
        {"network": lambda: Quantised(Block(), 255)},
        r"module \(the network itself\): .*Block\(\) there, .*Quantised\(\) now",
    ),
    "masked gradients": ({"network": lambda: block(masked_gradient)}, GRADIENTS),
    "dropout left on": ({"network": lambda: block(dropping)}, "was a function and is random"),
    "another normalisation": (
        {"network": lambda: Normalized(Block(), mean=(0.4,) * 3, std=(0.2,) * 3)},
        "normalisation and resizing around the network: none there, Normalized",
    ),
    # attack
    "a setting of the attack": ({"attacks": pgd(num_steps=4)}, "another attack with the name 'pgd'"),
    "another attack": ({"attacks": {"pgd": SegPGD(num_steps=3, criterion=CRITERION)}}, "another attack with the name"),
    "a wrapper": ({"attacks": {"pgd": Restarts(attack=pgd()["pgd"])}}, "another attack with the name 'pgd'"),
    "an average": ({"attacks": {"pgd": EOT(attack=pgd()["pgd"], num_draws=2)}}, "another attack with the name 'pgd'"),
    "the threshold": ({"attacks": pgd(criterion=Untargeted(apsr=0.8))}, r"criterion of success: .*0.9\) there, .*0.8"),
    "the seed": ({"seed": 1}, "seed: 0 there, 1 now"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_is_refused_with_its_name(first, tmp_path, name):
    changes, message = REFUSED[name]
    directory = shutil.copytree(first, tmp_path / "run")
    before = files_of(directory)
    with pytest.raises(ValueError, match=message):
        call(directory, 1, **{key: value() if callable(value) else value for key, value in changes.items()})
    assert files_of(directory) == before


def target_file(path, value):
    write_label_map(path, torch.full((8, 9), value))
    return path


def hidden(scale):
    return {"pgd": Hidden(num_steps=3, criterion=CRITERION, scale=scale)}


PAIRS = {
    "the strength of a random network": (
        {"network": lambda _: Block(strength=0.1)},
        {"network": lambda _: Block(strength=0.12)},
        LOGITS,
    ),
    "no randomness any more": (
        {"network": lambda _: Block(strength=0.1)},
        {"network": lambda _: Block()},
        "was random and is a function",
    ),
    "levels of a quantising defence": (
        {"network": lambda _: Quantised(Block(), 255)},
        {"network": lambda _: Quantised(Block(), 127)},
        LOGITS,
    ),
    "no gradient through a rounding": (
        {"network": lambda _: Quantised(Block(), 255)},
        {"network": lambda _: Quantised(Block(), 255, straight_through=False)},
        GRADIENTS,
    ),
    "an adapter that is switched off": (
        {"network": lambda _: Adapted(True)},
        {"network": lambda _: Adapted(False)},
        LOGITS,
    ),
    "the mean of a normalisation": (
        {"network": lambda _: Normalized(Block(), mean=(0.4, 0.4, 0.4), std=(0.2,) * 3)},
        {"network": lambda _: Normalized(Block(), mean=(0.4, 0.4, 0.41), std=(0.2,) * 3)},
        r"normalisation and resizing .*0.4\).* there, .*0.41",
    ),
    "names of classes": (
        {"dataset": lambda _: Scenes(label_space=space("a", "b", "c", "d"))},
        {"dataset": lambda _: Scenes(label_space=space("a", "b", "d", "c"))},
        "label spaces differ",
    ),
    "a hidden field": (
        {"attacks": lambda _: hidden(1.0)},
        {"attacks": lambda _: hidden(2.0)},
        r"scale=1.0[^\n]*\n[^\n]*scale=2.0",
    ),
    "the content of a file of targets": (
        {
            "attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)),
            "targets": lambda folder: LabelMap(path=str(target_file(folder / "map.png", 1))),
        },
        {
            "attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)),
            "targets": lambda folder: LabelMap(path=str(target_file(folder / "map.png", 2))),
        },
        r"criterion of success: .*towards LabelMap\(content=",
    ),
    "targets": (
        {"attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)), "targets": lambda _: Constant(label=1)},
        {"attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)), "targets": lambda _: Constant(label=2)},
        r"criterion of success: .*label=1\) there, .*label=2\) now",
    ),
    "names that choose targets": (
        {"attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)), "targets": lambda _: Constant(label=1)},
        {
            "attacks": lambda _: pgd(criterion=Targeted(apsr=0.9)),
            "targets": lambda _: Constant(label=1),
            "dataset": lambda _: Scenes(names=tuple("abcdef")),
        },
        "the name of sample 0 was toy_0 and is a",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_change_of_a_setting_of_both_calls_is_refused_with_its_name(tmp_path, name):
    before, after, message = PAIRS[name]
    call(tmp_path / "run", 0, **{key: make(tmp_path) for key, make in before.items()})
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "run", 1, **{key: make(tmp_path) for key, make in after.items()})


@contextlib.contextmanager
def threads(num):
    found = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(found)


@contextlib.contextmanager
def default_dtype(dtype):
    found = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(found)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def older_packages(directory):
    path = directory / "network.json"
    identity = json.loads(path.read_text())
    identity["versions"]["torch"] = "2.9.0"
    identity["modules"]["act"] = "torch.nn.modules.activation.LeakyReLU(slope=0.1)"
    path.write_text(json.dumps(identity))


WITHOUT_EFFECT = {
    "nothing": {},
    "batch size": {"batch_size": 3},
    "training mode": {"network": lambda: Block().train()},
    "frozen parameters": {"network": lambda: block(no_gradients)},
    "compiled": {"network": lambda: torch.compile(Block(), backend="eager")},
    "compiled in place": {"network": lambda: block(lambda network: network.compile(backend="eager"))},
    "data parallel": {"network": lambda: DataParallel(Block())},
    "channels last": {"network": lambda: Block().to(memory_format=torch.channels_last)},
    "threads": {"around": lambda: threads(3)},
    "default precision": {"around": lambda: default_dtype(torch.float64)},
    "inference mode": {"around": torch.inference_mode},
    "autocast": {"around": lambda: torch.autocast("cpu", torch.bfloat16)},
    "deterministic kernels": {"around": deterministic},
    "another version of torch": {"edit": older_packages},
    "other names": {"dataset": lambda: Scenes(names=tuple("abcdef"))},
    "more samples at the end": {"dataset": lambda: Scenes(num=7)},
    "another fingerprint": {"dataset": lambda: Scenes(fingerprint=lambda: "other")},
    "stored images": {"keep_adversarials": True},
    "success rates alone": {"asr_only": True},
    "another radius": {"eps": (EPS, 2 * EPS)},
    "one more attack": {"attacks": {**pgd(), "longer": pgd(num_steps=5)["pgd"]}},
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_change_has_no_effect_on_the_numbers(first, undisturbed, tmp_path, name):
    changes = dict(WITHOUT_EFFECT[name])
    directory = shutil.copytree(first, tmp_path / "run")
    changes.pop("edit", lambda _: None)(directory)
    around = changes.pop("around", contextlib.nullcontext)
    settings = {key: value() if callable(value) else value for key, value in {"network": Block, **changes}.items()}
    with around():
        call(directory, 1, **settings)
    made = numbers(read_records(directory))
    expected = {key: value for key, value in undisturbed.items() if key in made}
    assert {key: value for key, value in made.items() if key in expected} == expected
    assert any(key not in numbers(read_records(first)) for key in expected)


def test_fewer_samples_are_no_change(first, tmp_path):
    directory = shutil.copytree(first, tmp_path / "run")
    call(directory, 1, dataset=Scenes(num=3))
    assert {record.sample_id for record in read_records(directory)} == {0, 1, 3}


def test_changed_samples_outside_of_a_call_are_refused_when_they_return(first, tmp_path):
    directory = shutil.copytree(first, tmp_path / "run")
    (chosen,) = choose_samples(6, 1, seed=0)
    other = 3 - chosen
    changed = Scenes(lambda item: one_pixel(item) if item["sample_id"] == other else item)
    call(directory, 0, dataset=changed, max_images=1)
    with pytest.raises(ValueError, match=rf"of 1 sample, {other} \(toy_{other}\)"):
        call(directory, 1, dataset=changed)
