import json
from dataclasses import replace

import pytest
from torch import nn

from segrobust.evaluation import Manifest, RunDirectory
from segrobust.evaluation.run.manifest import AttackEntry, describe_network, preprocessing_of
from segrobust.label_space import LabelSpace
from segrobust.networks import FullResolution, Normalized, SlidingWindow

SPACE = LabelSpace(names=("road", "sky"), palette=((1, 2, 3), (4, 5, 6)))
PGD = AttackEntry(
    name="pgd", digest="aa", attack="PGD(num_steps=40)", kind="fixed-budget", norm_name="linf", eps=(0.1, 0.2)
)
ALMA = AttackEntry(name="alma", digest="bb", attack="AlmaProx()", kind="minimal-norm", norm_name="linf", eps=())
MANIFEST = Manifest(
    weights="5e1f",
    preprocessing="Normalized(mean=(0.5), std=(0.2))",
    data="c0ffee",
    image_size="360x480",
    label_space=SPACE,
    ignore_index=255,
    criterion="Untargeted(apsr=0.99)",
    seed=0,
    precision="float32",
    samples=(0, 1),
    attacks=(PGD,),
    planned=(PGD,),
    asr_only=False,
    data_description="CamVid val",
    network_description="FPN",
)


def test_every_wrapper_and_its_settings_are_told():
    bare = nn.Conv2d(3, 2, 1)
    network = Normalized(SlidingWindow(FullResolution(bare, stride=8), window=(64, 32), stride=(32, 16)))
    told = preprocessing_of(network)
    assert [word.split("(")[0] for word in told.split("; ")] == ["Normalized", "SlidingWindow", "FullResolution"]
    assert "(64, 32)" in told
    assert "(32, 16)" in told
    assert preprocessing_of(bare) == "none"
    assert describe_network(network) == "Conv2d, 8e-06 M parameters"


def test_a_manifest_survives_its_file(tmp_path):
    RunDirectory(tmp_path / "a" / "b").claim(MANIFEST)
    assert Manifest.read(tmp_path / "a" / "b" / "manifest.json") == MANIFEST
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("weights", "77aa", "weights of the network: 5e1f there, 77aa now"),
        ("preprocessing", "none", "normalisation"),
        ("ignore_index", 0, "void pixels: 255 there, 0 now"),
        ("criterion", "Untargeted(apsr=0.5)", "criterion"),
        ("seed", 3, "seed: 0 there, 3 now"),
        ("precision", "float64", "precision: float32 there, float64 now"),
    ],
)
def test_results_of_something_else_are_not_mixed_in(tmp_path, field, value, named):
    RunDirectory(tmp_path).claim(MANIFEST)
    with pytest.raises(ValueError, match="another run directory") as caught:
        RunDirectory(tmp_path).claim(replace(MANIFEST, **{field: value}))
    assert named in str(caught.value)
    assert str(caught.value).count(" there, ") == 1
    assert Manifest.read(tmp_path / "manifest.json") == MANIFEST


def test_other_classes_are_refused_and_other_paint_is_not(tmp_path):
    RunDirectory(tmp_path).claim(MANIFEST)
    with pytest.raises(ValueError, match="'sky' on one side and 'sea'"):
        RunDirectory(tmp_path).claim(replace(MANIFEST, label_space=replace(SPACE, names=("road", "sea"))))
    RunDirectory(tmp_path).claim(replace(MANIFEST, label_space=replace(SPACE, palette=((9, 9, 9), (4, 5, 6)))))


def test_later_commands_add_attacks_radii_and_samples(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.claim(MANIFEST)
    wider = replace(PGD, eps=(0.3, 0.2))
    merged = directory.claim(replace(MANIFEST, samples=(0, 1, 5), attacks=(ALMA, wider), planned=(ALMA, wider)))
    assert merged == Manifest.read(directory.manifest)
    assert merged.attacks == (replace(PGD, eps=(0.1, 0.2, 0.3)), ALMA)
    assert (merged.planned, merged.samples) == ((ALMA, wider), (0, 1, 5))


def test_a_name_cannot_pass_to_another_attack(tmp_path):
    RunDirectory(tmp_path).claim(MANIFEST)
    usurper = replace(PGD, digest="cc", attack="PGD(num_steps=7)")
    with pytest.raises(ValueError, match="num_steps=40") as caught:
        RunDirectory(tmp_path).claim(replace(MANIFEST, attacks=(usurper,), planned=(usurper,)))
    assert "num_steps=7" in str(caught.value)


@pytest.mark.parametrize("inside", [False, True])
def test_a_directory_that_cannot_be_written_is_named_before_any_work(tmp_path, inside):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run" if inside else tmp_path / "file"
    with pytest.raises(ValueError, match=f"{path} cannot be written"):
        RunDirectory(path).claim(MANIFEST)


@pytest.mark.parametrize(
    "content", ['{"schema": 3}', "[]", '{"schema": 2, "weights": "a"}', '{"schema": 1, "weights": "a"}']
)
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        RunDirectory(tmp_path).claim(MANIFEST)


def test_the_file_is_plain_json(tmp_path):
    RunDirectory(tmp_path).claim(replace(MANIFEST, label_space=None))
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert (data["label_space"], data["attacks"][0]["eps"]) == (None, [0.1, 0.2])
