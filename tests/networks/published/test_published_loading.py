"""Files of published formats, key for key: what is loaded, what is left out, what is refused."""

import hashlib
import os
import re
import sys
import types

import pytest
import torch
from networks.published.cases import CASES, mmseg_file
from networks.published.references import Reference

from segrobust.networks.published import MMSegDeepLabV3Plus, MMSegPSPNet, MMSegSegFormer, SemsegPSPNet

SMALL = CASES["mmseg pspnet r50"]


@pytest.fixture(scope="module")
def weights():
    return SMALL.expected()[1]


def is_left_out(case, name):
    return name.startswith(case.left_out) if case.left_out else False


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_full_size_names_and_shapes(case):
    ref = Reference(device="meta")
    case.reference(ref, torch.empty(1, 3, 64, 64, device="meta"), 21, **case.full_reference)
    with torch.device("meta"):
        core = case.architecture(21, **case.full).core
    own = {name: tuple(weight.shape) for name, weight in core.state_dict().items()}
    needed = {name: tuple(weight.shape) for name, weight in ref.weights.items() if not is_left_out(case, name)}
    assert own == {name.replace("cls1.", "cls."): shape for name, shape in needed.items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_weight_of_the_file_is_loaded_or_left_out_by_name(case, tmp_path):
    _, weights = case.expected()
    network = case.build(case.write(tmp_path / "a.pth", weights))
    left_out = {name for name in network.left_out if name not in case.file({})}
    assert left_out == {name for name in weights if is_left_out(case, name)}
    assert set(network.left_out) - left_out == set(case.file({})) - {"state_dict"}
    own = network.core.state_dict()
    for name, weight in weights.items():
        if not is_left_out(case, name):
            assert own.pop(name.replace("cls1.", "cls.")).equal(weight), name
    assert not own


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_renamed_weight_is_refused(case, tmp_path):
    _, weights = case.expected()
    needed = [name for name in weights if not is_left_out(case, name) and "num_batches" not in name]
    victim = needed[len(needed) // 2]
    short = re.escape(victim.replace("cls1.", "cls."))
    kept = {name: weight for name, weight in weights.items() if name != victim}
    case.write(tmp_path / "a.pth", kept | {f"{victim}_": weights[victim]})
    with pytest.raises(ValueError, match=f"1 missing: {short}; 1 unexpected: {short}_"):
        case.build(tmp_path / "a.pth")


@pytest.mark.parametrize("position", [0, 1, -1])
def test_one_missing_weight_is_refused(weights, position, tmp_path):
    victim = [name for name in weights if not is_left_out(SMALL, name) and "num_batches" not in name][position]
    SMALL.write(tmp_path / "a.pth", {name: weight for name, weight in weights.items() if name != victim})
    with pytest.raises(ValueError, match=f"MMSegPSPNet: 1 missing: {re.escape(victim)}; it looks like"):
        SMALL.build(tmp_path / "a.pth")


def test_a_refused_file_changes_nothing(weights, tmp_path):
    network = SMALL.build()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    last = list(weights)[-1]
    SMALL.write(tmp_path / "a.pth", {name: weight for name, weight in weights.items() if name != last})
    with pytest.raises(ValueError, match="1 missing"):
        network._load(tmp_path / "a.pth", None)
    assert all(weight.equal(before[name]) for name, weight in network.state_dict().items())


def test_counters_of_batches_may_be_absent(weights, tmp_path):
    old = {name: weight for name, weight in weights.items() if not name.endswith("num_batches_tracked")}
    network, same = SMALL.build(SMALL.write(tmp_path / "a.pth", old)), SMALL.build(SMALL.write(tmp_path / "b", weights))
    assert network.eval()(SMALL.images()).equal(same.eval()(SMALL.images()))


def test_another_number_of_classes_is_told_with_its_mend(weights, tmp_path):
    SMALL.write(tmp_path / "a.pth", weights)
    message = r"decode_head.conv_seg.weight \(5, 8, 1, 1\) for \(7, 8, 1, 1\).*MMSegPSPNet\(num_classes=5, depth=50"
    with pytest.raises(ValueError, match=message):
        MMSegPSPNet(7, **SMALL.small, checkpoint=tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "looks_like"),
    [
        ("mmseg deeplabv3plus r50", r"MMSegDeepLabV3Plus\(num_classes=5, depth=50, stem='deep'\)"),
        ("mmseg deeplabv3plus r50b", r"MMSegDeepLabV3Plus\(num_classes=5, depth=50, stem='plain'\)"),
        ("mmseg deeplabv3plus r101", r"MMSegDeepLabV3Plus\(num_classes=5, depth=101, stem='deep'\)"),
        ("mmseg fcn hrnet w48", r"MMSegFCNHRNet\(num_classes=5\)"),
        ("mmseg segformer b3", r"MMSegSegFormer\(num_classes=5, variant="),
        ("pirat upernet convnext s", r"PIRATUPerNet\(num_classes=5, variant='small'\)"),
        ("pirat segmenter vit s", r"PIRATSegmenter\(num_classes=5\)"),
        ("pirat pspnet r50", r"SemsegPSPNet\(num_classes=5, depth=50, stem='plain'\)"),
        ("ddcat pspnet r50", r"SemsegPSPNet\(num_classes=5, depth=50, stem='deep'\)"),
        ("ddcat deeplabv3 r50", r"SemsegDeepLabV3\(num_classes=5, depth=50, stem='deep'\)"),
    ],
)
def test_the_likely_architecture_is_named(name, looks_like, tmp_path):
    case = CASES[name]
    case.write(tmp_path / "a.pth", case.expected()[1])
    with pytest.raises(ValueError, match=f"it looks like {looks_like}"):
        MMSegPSPNet(5, **SMALL.small, checkpoint=tmp_path / "a.pth")


def test_a_file_of_nothing_known_says_so(tmp_path):
    torch.save({"linear.weight": torch.ones(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="nor does it look like another format known here"):
        MMSegPSPNet(5, checkpoint=tmp_path / "a.pth", **SMALL.small)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_not_needed(weights, tmp_path, monkeypatch, zipped):
    """As mmengine keeps them in `message_hub`: of a package that is not installed here, with a numpy array inside."""
    package = types.ModuleType("mmengine_like")
    package.HistoryBuffer = type("HistoryBuffer", (), {"__module__": "mmengine_like"})
    buffer = package.HistoryBuffer()
    buffer.values = torch.arange(3).numpy()
    monkeypatch.setitem(sys.modules, "mmengine_like", package)
    content = mmseg_file(weights) | {"message_hub": {"log_scalars": {"loss": buffer}}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "mmengine_like")
    network = SMALL.build(tmp_path / "a.pth")
    assert "message_hub" in network.left_out
    assert network.core.decode_head.conv_seg.bias.equal(weights["decode_head.conv_seg.bias"])


class RunsCode:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("runs", [RunsCode(exec, "1 / 0"), RunsCode(getattr, RunsCode, "__reduce__")])
def test_code_beside_the_weights_is_never_run(weights, tmp_path, runs):
    torch.save(mmseg_file(weights) | {"meta": {"env": runs}}, tmp_path / "a.pth")
    network = SMALL.build(tmp_path / "a.pth")
    assert network.core.decode_head.conv_seg.bias.equal(weights["decode_head.conv_seg.bias"])


@pytest.mark.parametrize("method", [False, True])
def test_a_file_that_reaches_further_is_refused(weights, tmp_path, method):
    """By a module of the system, which torch never allows; by calling what another call gives."""
    witness = tmp_path / "witness"
    runs = RunsCode(witness.mkdir) if method else RunsCode(os.mkdir, str(witness))
    torch.save(mmseg_file(weights) | {"meta": {"env": runs}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"is refused: it names .*Write the state dict alone to a file"):
        SMALL.build(tmp_path / "a.pth")
    assert not witness.exists()


def test_an_object_in_the_place_of_a_weight_is_refused(weights, tmp_path):
    torch.save(mmseg_file(weights | {"decode_head.conv_seg.bias": RunsCode(exec, "1/0")}), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"holds no state dict: \{'decode_head.conv_seg.bias'"):
        SMALL.build(tmp_path / "a.pth")


def test_unknown_entries_beside_the_weights_are_refused(weights, tmp_path):
    torch.save(mmseg_file(weights) | {"ema_state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds ema_state_dict beside 'state_dict'"):
        SMALL.build(tmp_path / "a.pth")


def test_files_that_are_no_checkpoint_are_named(tmp_path):
    for content, message in (
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04rubbish", "damaged, truncated"),
    ):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            SMALL.build(tmp_path / "a.pth")
    with pytest.raises(OSError, match=r"missing\.pth"):
        SMALL.build(tmp_path / "missing.pth")


def test_the_hash_is_compared_as_far_as_it_is_given(weights, tmp_path):
    path = SMALL.write(tmp_path / "a.pth", weights)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for given in (digest, digest[:8], digest[:8].upper()):
        MMSegPSPNet(5, **SMALL.small, checkpoint=path, sha256=given)
    with pytest.raises(ValueError, match=f"has the SHA-256 {digest[:8]}..., expected 00000000"):
        MMSegPSPNet(5, **SMALL.small, checkpoint=path, sha256="00000000")
    with pytest.raises(ValueError, match="8 to 64 hexadecimal digits, got 'abc'"):
        MMSegPSPNet(5, **SMALL.small, checkpoint=path, sha256="abc")
    with pytest.raises(ValueError, match="sha256 has no effect without a checkpoint"):
        MMSegPSPNet(5, **SMALL.small, sha256=digest)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMSegDeepLabV3Plus(5, depth=34), r"depth must be one of \(50, 101\), got 34"),
        (lambda: MMSegDeepLabV3Plus(5, stem="wide"), "stem must be 'deep'.*got 'wide'"),
        (lambda: SemsegPSPNet(5, stem="wide"), "stem must be 'deep'.*got 'wide'"),
        (lambda: MMSegSegFormer(5, variant="b9"), "variant must be one of b0, .*got 'b9'"),
        (lambda: CASES["pirat upernet convnext t"].architecture(5, variant="large"), "one of tiny, small, got 'large'"),
        (lambda: CASES["pirat segmenter vit s"].architecture(5, width=100), "width must be a multiple of 64"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
