"""Networks as people have them: attacked like the plain module, or refused with the line to write."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

import segrobust
from segrobust.attacks import PGD, Square
from segrobust.networks import FullResolution, Normalized, SlidingWindow, check_differentiable
from segrobust.tasks import SegmentationTask

IMAGES = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
MASKS = torch.randint(0, 3, (2, 6, 8), generator=torch.Generator().manual_seed(0))
PAIRS = [*zip(IMAGES, MASKS, strict=True)]
ATTACK = PGD(num_steps=2)


def plain(num_classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, num_classes, 1))


def apsr_of(network, attack=ATTACK, **settings):
    report = segrobust.evaluate(network, PAIRS, attacks={"a": attack}, eps=[2 / 255], progress=False, **settings)
    return [record.apsr for record in report.records]


def exported():
    sizes = {0: torch.export.Dim("b"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    return torch.export.export(plain().eval(), (IMAGES,), dynamic_shapes=(sizes,))


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain().train(),
        lambda: torch.jit.script(plain()),
        lambda: torch.jit.trace(plain().eval(), IMAGES),
        lambda: torch.fx.symbolic_trace(plain()),
        lambda: torch.compile(plain(), backend="eager"),
        lambda: exported().module(),
        lambda: nn.DataParallel(plain()),
        lambda: plain().to(memory_format=torch.channels_last),
    ],
)
def test_the_same_network_in_another_form_gives_the_same_numbers(make):
    assert apsr_of(make(), checks="off") == apsr_of(plain().eval(), checks="off")


def test_the_mode_of_every_part_is_given_back():
    network = plain().train()
    network[1].eval()
    apsr_of(network, checks="off")
    assert [module.training for module in network] == [True, False, True, True]


class Writing(nn.Module):
    """Writes to its input."""

    def __init__(self, in_place):
        super().__init__()
        self.network, self.in_place = plain(), in_place

    def forward(self, images):
        if not self.in_place:
            return self.network((images - 0.5) / 0.25)
        return self.network(images.sub_(0.5).div_(0.25))


@pytest.mark.parametrize("around", [nn.Identity(), "window"])
def test_a_network_may_write_to_its_input(tmp_path, around):
    before = IMAGES.clone()
    networks = [Writing(in_place) for in_place in (True, False)]
    if around == "window":
        networks = [SlidingWindow(network, window=(4, 4), stride=(2, 4)) for network in networks]
    found = [apsr_of(network, run_dir=tmp_path / str(index)) for index, network in enumerate(networks)]
    assert found[0] == found[1]
    assert IMAGES.equal(before)
    assert check_differentiable(networks[0]) == 3
    results = [PGD(num_steps=2, eps=2 / 255)(network, IMAGES, MASKS).adv for network in networks]
    assert results[0].equal(results[1])
    assert IMAGES.equal(before)


class Through(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.network, self.change = plain(), change

    def forward(self, images):
        return self.change(self.network(images))


def refused():
    with torch.device("meta"):
        empty = plain()
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(8, 8)), {nn.Linear})
    return [
        (plain().half(), ValueError, r"0.weight.*float16.*network.float\(\)"),
        (plain().bfloat16(), ValueError, r"bfloat16.*network.float\(\)"),
        (quantised, ValueError, "quantised layers .*before its quantisation"),
        (empty, ValueError, "meta and have no values"),
        (nn.Sequential(nn.LazyConv2d(3, 1)), ValueError, "call the network once"),
        (torch.jit.freeze(torch.jit.script(plain().eval())), ValueError, "frozen for inference"),
        (exported(), TypeError, r"pass network.module\(\)"),
        (lambda images: images, TypeError, "the function <lambda>: write a class"),
        (torch.relu, TypeError, "the function relu"),
        (functools.partial(plain), TypeError, "a partial of plain"),
        (functools.partial(nn.Conv2d, 3), TypeError, "call it, and pass what it makes"),
        (nn.Conv2d, TypeError, "the class Conv2d: call it"),
        (plain().forward, TypeError, "the method forward of Sequential: pass the module itself"),
        (plain().state_dict(), TypeError, "weights alone.*load_weights"),
        ("weights.pth", TypeError, "'weights.pth'.*load_weights"),
        ([plain()], TypeError, "one network at a time"),
        (Through(lambda logits: {"out": logits}), TypeError, "got dict.*FullResolution"),
        (Through(lambda logits: (logits, logits)), TypeError, "got tuple.*FullResolution"),
        (Through(lambda logits: logits.argmax(1)), TypeError, "without argmax"),
        (Through(lambda logits: logits.to_sparse()), TypeError, r"sparse_coo: return logits.to_dense\(\)"),
        (Through(lambda logits: None), TypeError, "got NoneType; return the logits"),
        (Through(lambda logits: logits.detach().numpy()), TypeError, "without argmax, rounding and NumPy"),
        (Through(lambda logits: logits.permute(0, 2, 3, 1)), ValueError, "classes seem to be last"),
        (Through(lambda logits: logits[..., ::2, ::2]), ValueError, "FullResolution"),
        (Through(lambda logits: logits.detach()), ValueError, "differentiably.*detach.*Square"),
        (Through(lambda logits: logits[:, :1]), ValueError, "SigmoidClasses"),
        (Through(lambda logits: logits * float("nan")), FloatingPointError, "NaN"),
        (nn.Conv2d(4, 3, 1), ValueError, "3 channels, the network's first convolution takes 4"),
    ]


@pytest.mark.parametrize(("network", "error", "message"), refused())
def test_what_cannot_be_attacked_is_refused_with_the_line_to_write(network, error, message):
    with pytest.raises(error, match=message):
        apsr_of(network)


@pytest.mark.parametrize(
    ("network", "error", "message"), [case for case in refused() if case[1] is not FloatingPointError]
)
def test_an_attack_refuses_the_same_in_the_same_words(network, error, message):
    with pytest.raises(error, match=message):
        PGD(num_steps=2, eps=2 / 255)(network, IMAGES, MASKS)


def test_an_attack_without_gradients_takes_a_network_without():
    network = Through(lambda logits: logits.detach())
    assert len(apsr_of(network, Square(num_queries=4), checks="off")) == 4
    Square(num_queries=4, eps=2 / 255)(refused()[2][0], IMAGES, MASKS)


def test_a_task_takes_weights_that_get_their_values_later():
    with torch.device("meta"):
        task = SegmentationTask(plain())
    with pytest.raises(ValueError, match="meta and have no values"):
        PGD(num_steps=2, eps=2 / 255)(task.network, IMAGES, MASKS)
    task.to_empty(device="cpu").network.load_state_dict(plain().state_dict())
    assert PGD(num_steps=2, eps=2 / 255)(task.network, IMAGES, MASKS).adv.shape == IMAGES.shape


def test_sharded_weights_are_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = plain()
        fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"0.weight.*sharded: save the full state dict"):
            PGD(num_steps=2, eps=2 / 255)(network, IMAGES, MASKS)
    finally:
        dist.destroy_process_group()


class Halving(nn.Module):
    """Takes even sizes alone."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.skip = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.up(self.down(images)) + self.skip(images)


def test_sizes_that_a_network_does_not_take_are_named_with_the_stride():
    attack, images, labels = PGD(num_steps=2, eps=2 / 255), IMAGES[..., :7], MASKS[..., :7]
    with pytest.raises(ValueError, match=r"6 x 7 pixels.*FullResolution\(network, stride=2\)"):
        attack(Halving(), images, labels)
    assert attack(FullResolution(Halving(), stride=2), images, labels).adv.shape == images.shape


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (IMAGES.numpy(), MASKS, TypeError, "got ndarray: write torch.as_tensor"),
        (IMAGES, MASKS.numpy(), TypeError, r"got ndarray: write torch.as_tensor\(labels\)"),
        (IMAGES[0], MASKS[0], ValueError, r"images\[None\] and labels\[None\]"),
        (IMAGES.permute(0, 2, 3, 1), MASKS, ValueError, r"images.permute\(0, 3, 1, 2\)"),
        ((IMAGES * 255).byte(), MASKS, TypeError, "uint8.*255"),
        (IMAGES * 255, MASKS, ValueError, r"\[0, 1\], got.*255"),
        (IMAGES.half(), MASKS, TypeError, r"images.float\(\)"),
        (IMAGES.double(), MASKS, ValueError, r"float64, the network is torch.float32: pass images.float\(\)"),
        (IMAGES, MASKS[0], ValueError, r"labels\[None\]"),
        (IMAGES, MASKS + 2, ValueError, r"\[3, 4\], outside the network's 3 classes"),
        (IMAGES, MASKS / 2, TypeError, "fractions"),
    ],
)
def test_batches_that_an_attack_does_not_take_are_named(images, labels, error, message):
    with pytest.raises(error, match=message):
        PGD(num_steps=2, eps=2 / 255)(plain(), images, labels)


@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.byte,
        torch.Tensor.int,
        torch.Tensor.float,
        lambda m: m[:, None],
        lambda m: torch.eye(3)[m],
        lambda m: m.to(torch.uint16),
    ],
)
def test_labels_of_every_form_give_the_same_result(change):
    attack = PGD(num_steps=2, eps=2 / 255)
    assert attack(plain(), IMAGES, change(MASKS)).adv.equal(attack(plain(), IMAGES, MASKS).adv)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_another_device_is_named():
    with pytest.raises(ValueError, match=r'images.to\("cuda:0"\)'):
        PGD(num_steps=2, eps=2 / 255)(plain().cuda(), IMAGES, MASKS)


class Own(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward):
        super().__init__()
        self.inner, self.given = plain(), forward

    def forward(self, images):
        return self.given(self.inner, images)


class Predicts(nn.Module):
    """A module with other methods than forward."""

    def predict(self, images):
        return images


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.ModuleList([plain(), plain()]), r"a ModuleList, has no forward.*one network at a time.*mean of their"),
        (nn.ModuleDict({"a": plain()}), r"a ModuleDict, has no forward.*network\['a'\]"),
        (Predicts(), r"a Predicts, has no forward.*define `forward\(self, images\)`"),
    ],
)
def test_a_module_without_forward_is_named(network, message):
    with pytest.raises(TypeError, match=message):
        ATTACK(network, IMAGES, MASKS, eps=2 / 255)


@pytest.mark.parametrize("wrap", [lambda network: network, FullResolution])
def test_channels_last_are_named(wrap):
    network = Own(lambda inner, images: inner(images.permute(0, 3, 1, 2)))
    with pytest.raises(ValueError, match=r"\(2, 3, 6, 8\), but with the channels last.*permute\(0, 2, 3, 1\)"):
        ATTACK(wrap(network), IMAGES, MASKS, eps=2 / 255)


def test_recomputed_activations_are_attacked_or_the_setting_is_named():
    def recomputed(reentrant):
        return Own(lambda inner, images: checkpoint(inner, images, use_reentrant=reentrant))

    assert apsr_of(recomputed(False), checks="off") == apsr_of(plain().eval(), checks="off")
    for call in (
        lambda: ATTACK(recomputed(True), IMAGES, MASKS, eps=2 / 255),
        lambda: check_differentiable(recomputed(True)),
    ):
        with pytest.raises(ValueError, match=r"use_checkpoint=False.*use_reentrant=False"):
            call()


class Patches(nn.Module):
    """Sizes that are multiples of a patch, or one size alone; says so as another library does."""

    def __init__(self, patch, side, error):
        super().__init__()
        self.inner, self.patch, self.side, self.error = plain(), patch, side, error

    def forward(self, images):
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch or (self.side and (height, width) != (self.side, self.side)):
            raise self.error("Input height doesn't match")
        return self.inner(images)


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, ValueError])
@pytest.mark.parametrize(("patch", "side", "line"), [(14, None, "stride=14"), (48, None, "stride=48"), (1, 224, "224")])
def test_the_sizes_that_a_network_takes_are_found(patch, side, line, error):
    images = torch.rand(1, 3, 300, 300) if side else IMAGES
    with pytest.raises(ValueError, match=rf"does not take images of \d+ x \d+ pixels, but of .*{line}"):
        ATTACK(Patches(patch, side, error), images, torch.zeros(len(images), *images.shape[2:]).long(), eps=2 / 255)


def test_the_line_for_one_size_gives_logits():
    network = SlidingWindow(FullResolution(Patches(1, 64, ValueError), stride=64), window=(64, 64)).eval()
    for size in ((100, 100), (40, 90), (64, 64)):
        assert network(torch.rand(1, 3, *size)).shape[2:] == size


class WithDepth(nn.Module):
    """Takes two inputs."""

    def forward(self, images, depth):
        return images + depth


OTHER_CALLS = {
    "a mapping": (lambda inner, images: inner(images["image"]), "too many indices.*all that it takes"),
    "a list of mappings": (lambda inner, images: [inner(image["image"]) for image in images], "all that it takes"),
    "an attribute": (lambda inner, images: inner(images.tensors), "tensors.*all that it takes"),
    "an array": (lambda inner, images: inner(torch.from_numpy(images.numpy())), "take `torch.no_grad`"),
}


@pytest.mark.parametrize("name", OTHER_CALLS)
def test_a_network_that_is_called_in_another_way_is_explained(name):
    forward, message = OTHER_CALLS[name]
    with pytest.raises(ValueError, match=message):
        ATTACK(Own(forward), IMAGES, MASKS, eps=2 / 255)


def test_logits_of_a_part_of_the_batch_are_named_in_evaluations_too():
    with pytest.raises(ValueError, match="logits of every image of the batch"):
        apsr_of(Own(lambda inner, images: inner(images[:1])))


class WordsFirst(nn.Module):
    """Takes ids of words before the image, as networks of transformers that read texts do."""

    def __init__(self):
        super().__init__()
        self.inner = plain()

    def forward(self, input_ids=None, pixel_values=None):
        return self.inner(pixel_values.clamp(0, 1)) + input_ids.sum()


def test_a_network_whose_first_input_is_no_image_is_explained():
    with pytest.raises(ValueError, match=r"a batch of images .* alone .*'NoneType'.*all that it takes"):
        ATTACK(WordsFirst(), IMAGES, MASKS, eps=2 / 255)


class Int8Tensor(torch.Tensor):
    """A tensor that stores quantised weights, as the package of this module's name has."""


Int8Tensor.__module__ = "torchao.quantization"


def test_weights_that_another_package_quantised_are_named():
    network = plain()
    network[0].weight = nn.Parameter(network[0].weight.detach().as_subclass(Int8Tensor))
    with pytest.raises(ValueError, match=r"0.weight\) are quantised \(Int8Tensor\): give the network as it was"):
        apsr_of(network)


@pytest.mark.parametrize(
    "wrap", [lambda network: network, FullResolution, torch.jit.script], ids=["as it is", "wrapped", "scripted"]
)
def test_a_network_of_two_inputs_is_explained(wrap):
    with pytest.raises(ValueError, match=r"missing .*depth.*all that it takes"):
        ATTACK(wrap(WithDepth()), IMAGES, MASKS, eps=2 / 255)


BUGS = {
    "no such layer": (lambda inner, images: inner.heads(images), AttributeError, "'heads'"),
    "no such method": (lambda inner, images: inner(images).to_logits(), AttributeError, "to_logits"),
    "a key": (lambda inner, images: inner({"a": images}["b"]), KeyError, "b"),
    "a position": (lambda inner, images: [inner][2](images), IndexError, "out of range"),
    "two arguments": (lambda inner, images: inner(images, images), TypeError, "positional"),
    "a sum": (lambda inner, images: inner(images) + None, TypeError, "unsupported operand"),
    "its own words": (lambda inner, images: inner(int("x")), ValueError, "invalid literal"),
}


CALLS = {"attack": lambda network: ATTACK(network, IMAGES, MASKS, eps=2 / 255), "evaluate": apsr_of}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BUGS)
def test_a_fault_in_the_code_of_a_network_keeps_its_own_error(name, call):
    forward, error, message = BUGS[name]
    with pytest.raises(error, match=message) as raised:
        CALLS[call](Own(forward))
    assert any(entry.path.name == "test_networks_taken.py" and entry.name == "<lambda>" for entry in raised.traceback)


def test_a_network_that_is_traced_or_exported_for_one_batch_is_named_in_evaluations_too():
    class Baked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain().eval()

        def forward(self, images):
            return self.inner(images).reshape(1, 3, 6, 8)

    for made in (torch.jit.trace(Baked(), IMAGES[:1]), torch.export.export(plain().eval(), (IMAGES[:1],)).module()):
        with pytest.raises(ValueError, match=r"does not take images of the shape \(\d, 3, 6, 8\).*leave the batch"):
            apsr_of(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits[0], r"got \(3, 6, 8\); keep batch, classes, rows and columns"),
        (lambda logits: logits.flatten(2), r"got \(\d, 3, 48\); keep batch"),
        (lambda logits: logits[:0], "logits of every image of the batch"),
        (lambda logits: nn.functional.pad(logits, (0, 2)), "resize the logits to the size of the image inside"),
        (lambda logits: logits[..., ::2, ::2], "FullResolution"),
    ],
)
def test_logits_of_another_shape_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        ATTACK(Own(lambda inner, images: change(inner(images))), IMAGES, MASKS, eps=2 / 255)


def test_what_a_network_says_of_itself_is_not_replaced():
    def broken(inner, images):
        raise OSError("the licence server is away")

    with pytest.raises(OSError, match="licence"):
        ATTACK(Own(broken), IMAGES, MASKS, eps=2 / 255)
    with pytest.raises(ValueError, match=r"expected \(B, 4, H, W\)"):  # our own words
        ATTACK(Normalized(plain(), mean=(0,) * 4, std=(1,) * 4), IMAGES, MASKS, eps=2 / 255)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.weight", torch.nan, r"0\.weight \(2 of 108 values\)"),
        ("3.bias", -torch.inf, r"3\.bias \(2 of 3 values\)"),
        ("1.running_var", torch.inf, r"1\.running_var \(2 of 4 values\)"),
    ],
)
def test_weights_that_are_not_finite_are_named_before_the_work(name, value, message):
    network = plain()
    network.state_dict()[name].flatten()[:2] = value
    with pytest.raises(
        ValueError, match=f"the network holds weights that are NaN or infinite: {message}; its training"
    ):
        apsr_of(network)


def test_a_buffer_may_be_a_mask_of_minus_infinity():
    network = plain()
    expected = apsr_of(network, checks="off")
    network.register_buffer("causal", torch.full((2, 2), -torch.inf))
    assert apsr_of(network, checks="off") == expected


class Holder:
    """As a pipeline of `transformers`: callable, with the module as an attribute."""

    model = plain()

    def __call__(self, image):
        return self.model(image)


def test_an_object_that_holds_the_network_names_it():
    with pytest.raises(TypeError, match="got a Holder: pass the module that it holds, its attribute model"):
        apsr_of(Holder())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: {"last_hidden_state": logits}, "a backbone without a head"),
        (lambda logits: logits.detach().numpy(), "no gradient passes: return the tensor of logits"),
    ],
)
def test_features_and_arrays_are_no_logits(change, message):
    with pytest.raises(ValueError, match=message):
        apsr_of(FullResolution(Through(change)))
