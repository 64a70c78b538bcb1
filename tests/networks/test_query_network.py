"""Networks that classify masks, of any author."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segrobust.networks import FullResolution, QueryNetwork, SlidingWindow


@dataclass
class Output:
    class_queries_logits: Tensor
    masks_queries_logits: Tensor


class Pair(NamedTuple):
    masks: list
    classes: list


class Queries(nn.Module):
    """Six queries over four classes; in which form they are returned is the author's choice."""

    def __init__(self, form, dtype=torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 8, 4, stride=4)
        self.queries = nn.Parameter(3 * torch.randn(6, 8))
        self.classes = nn.Linear(8, 5)
        self.form = form
        self.to(dtype)

    def forward(self, images):
        features = self.features(images)
        masks = torch.einsum("qc,bchw->bqhw", self.queries, features)
        return self.form(self.classes(features.mean((2, 3))[:, None] + self.queries), masks)


FORMS = {
    "transformers": Output,
    "original": lambda classes, masks: {"pred_logits": classes, "pred_masks": masks, "aux_outputs": []},
    "DETR": lambda classes, masks: {"logits": classes, "pred_boxes": classes, "pred_masks": masks},
}


def last_layer(result):
    return result.classes[-1], result.masks[-1]


def published(classes, masks, size):
    masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())


IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def raw():
    with torch.no_grad():
        return Queries(lambda classes, masks: (classes, masks))(IMAGES)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_usual_names_are_known(raw, form):
    logits = QueryNetwork(Queries(form))(IMAGES)
    torch.testing.assert_close(logits, published(*raw, (24, 32)).log())
    wrapped = FullResolution(QueryNetwork(Queries(form)), stride=8)(IMAGES)
    torch.testing.assert_close(wrapped, logits)


def test_a_function_names_others(raw):
    network = QueryNetwork(Queries(lambda classes, masks: Pair([masks], [classes])), output=last_layer)
    torch.testing.assert_close(network(IMAGES), published(*raw, (24, 32)).log())
    assert "last_layer" in repr(network)


@pytest.mark.parametrize(("size", "at"), [("masks", (6, 8)), ((11, 13), (11, 13)), ([12, 16], (12, 16))])
def test_scores_of_another_size_are_resized(raw, size, at):
    expected = F.interpolate(published(*raw, at), size=(24, 32), mode="bilinear", align_corners=False)
    network = QueryNetwork(Queries(Output), product_size=size)
    torch.testing.assert_close(network(IMAGES), expected.log())


def test_half_precision_inside_is_computed_in_float32():
    logits = QueryNetwork(Queries(Output, torch.bfloat16))(IMAGES.bfloat16())
    assert logits.dtype == torch.float32
    assert QueryNetwork(Queries(Output, torch.float64))(IMAGES.double()).dtype == torch.float64


def test_full_resolution_names_the_adapter():
    for form in (FORMS["transformers"], FORMS["original"], FORMS["DETR"]):
        with pytest.raises(ValueError, match=r"classifies masks of queries.*FullResolution\(QueryNetwork\(network\)"):
            FullResolution(Queries(form), stride=8)(IMAGES)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda classes, masks: masks, r"a tensor \(2, 6, 6, 8\): if these are logits, take FullResolution"),
        (lambda classes, masks: {"cls": classes, "seg": masks}, r"output= .*'cls' \(2, 6, 5\), 'seg' \(2, 6, 6, 8\)"),
        (lambda classes, masks: {"pred_logits": classes.argmax(-1), "pred_masks": masks}, "floating-point"),
    ],
)
def test_other_outputs_are_listed(form, message):
    with pytest.raises(TypeError, match=message):
        QueryNetwork(Queries(form))(IMAGES)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda classes, masks: Output(classes[:, :3], masks), r"\(2, Q, K \+ 1\).*got class logits \(2, 3, 5\)"),
        (lambda classes, masks: Output(classes[:1], masks[:1]), r"\(2, Q, h, w\)"),
        (lambda classes, masks: Output(classes, masks[0]), r"mask logits \(6, 6, 8\)"),
        (lambda classes, masks: Output(classes[..., :2], masks), "a single class has no rival"),
    ],
)
def test_other_shapes_are_refused(form, message):
    with pytest.raises(ValueError, match=message):
        QueryNetwork(Queries(form))(IMAGES)


def test_wrong_settings_are_Queries():
    for size in ("mask", (384,), (384, 0), 384, (3.0, 4.0), None):
        with pytest.raises(ValueError, match="product_size must be 'image', 'masks'"):
            QueryNetwork(Queries(Output), product_size=size)
    with pytest.raises(TypeError, match="output must be a function"):
        QueryNetwork(Queries(Output), output="pred_masks")
    with pytest.raises(ValueError, match="define a function by `def`"):
        QueryNetwork(Queries(Output), output=lambda result: result)


@pytest.mark.parametrize("recompute", [True, False])
def test_windows_are_averaged_by_their_scores(recompute):
    """As EoMT's own code does: sums of scores over windows, divided by the number of windows at each pixel."""
    network = QueryNetwork(Queries(Output, torch.float64)).eval()
    images = IMAGES.double().requires_grad_()
    starts = [(top, left) for top in (0, 8) for left in (0, 8, 16)]
    scores, counts = (torch.zeros(2, 4, 24, 32, dtype=torch.float64) for _ in range(2))
    for top, left in starts:
        around = (left, 16 - left, top, 8 - top)
        output = network.network(images[:, :, top : top + 16, left : left + 16])
        part = published(output.class_queries_logits, output.masks_queries_logits, (16, 16))
        scores, counts = scores + F.pad(part, around), counts + F.pad(torch.ones_like(part), around)
    windows = SlidingWindow(FullResolution(network), window=(16, 16), stride=(8, 8), recompute=recompute).eval()
    logits = windows(images)
    torch.testing.assert_close(logits.exp(), scores / counts)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = torch.autograd.grad(logits, [images, *network.parameters()], noise)
    theirs = torch.autograd.grad((scores / counts).log(), [images, *network.parameters()], noise)
    torch.testing.assert_close(ours, theirs)
    assert repr(windows).splitlines()[1].strip() == "window=(16, 16), stride=(8, 8), mean of scores"


def test_a_class_without_a_score_in_all_windows_has_no_gradient():
    network = QueryNetwork(Queries(Output)).eval()
    with torch.no_grad():
        network.network.classes.bias[1] = -torch.inf
    images = IMAGES.clone().requires_grad_()
    logits = SlidingWindow(network, window=(16, 16))(images)
    assert logits[:, 1].isneginf().all()
    (gradient,) = torch.autograd.grad(logits[:, [0, 2, 3]].sum(), images)
    assert gradient.isfinite().all()
