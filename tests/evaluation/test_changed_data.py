"""A run directory knows its data: whatever changes an image or a mask is refused by name, or measured anew."""

from dataclasses import replace

import pytest
import torch
from toy import CRITERION, ToyScenes, comparable, toy_network

from segrobust.attacks import PGD, AlmaProx
from segrobust.evaluation import Distributed, RecordWriter, evaluate, read_records
from segrobust.evaluation.dataset import LoadedSample
from segrobust.evaluation.run.changed_samples import ChangedSampleError
from segrobust.evaluation.run.records import ContradictionError, merge_records

ATTACKS = {"pgd": PGD(num_steps=3, criterion=CRITERION)}
MORE = {**ATTACKS, "alma": AlmaProx(num_steps=6, step_size=0.05, criterion=CRITERION)}


def files_of(directory):
    """The content of all files but the locks, which say who worked here last."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.parent.name != ".locks")
    return {path: path.read_bytes() for path in files}


class Scenes(ToyScenes):
    """`ToyScenes` with a change of some samples; names and fingerprint stay."""

    def __init__(self, num, change=None, samples=()):
        super().__init__(num)
        self.change, self.samples = change, samples

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return self.change(item) if index in self.samples else item


def one_pixel(item):
    image = item["image"].clone()
    image[0, 0, 0] = 1 - image[0, 0, 0]
    return {**item, "image": image}


def corrected_mask(item):
    return {**item, "mask": (item["mask"] + 1).clamp(max=3)}


def mirrored(item):
    return {**item, "image": item["image"].flip(2), "mask": item["mask"].flip(1)}


def smaller(item):
    return {**item, "image": item["image"][:, :5], "mask": item["mask"][:5]}


def run(directory, dataset, attacks=ATTACKS, **settings):
    settings = {"eps": (16 / 255,), "checks": "off", "panels": 0, "progress": False, **settings}
    return evaluate(toy_network(), dataset, attacks=attacks, run_dir=directory, **settings)


CHANGES = pytest.mark.parametrize("change", [one_pixel, corrected_mask, mirrored, smaller])


@CHANGES
@pytest.mark.parametrize("attacks", [ATTACKS, MORE], ids=["finished", "extended"])
def test_changed_samples_are_refused_by_name(tmp_path, change, attacks):
    run(tmp_path, Scenes(6))
    before = files_of(tmp_path)
    with pytest.raises(ChangedSampleError, match=r"of 2 samples, 1 \(toy_1\), 4 \(toy_4\), is not .*redo_changed"):
        run(tmp_path, Scenes(6, change, (1, 4)), attacks)
    assert files_of(tmp_path) == before


def test_many_changed_samples_are_counted(tmp_path):
    run(tmp_path, Scenes(9))
    with pytest.raises(ChangedSampleError, match=r"of 8 samples, 0 .*, 5 \(toy_5\) and 3 more, is not"):
        run(tmp_path, Scenes(9, one_pixel, (0, 1, 3, 4, 5, 6, 7, 8)))


@CHANGES
def test_changed_samples_are_measured_anew_on_request(tmp_path, change):
    old, new = Scenes(6), Scenes(6, change, (1, 4))
    run(tmp_path / "a", old, panels=6, keep_adversarials=True)
    again = run(tmp_path / "a", new, panels=6, keep_adversarials=True, redo_changed=True)
    fresh = run(tmp_path / "b", new, panels=6, keep_adversarials=True)
    assert comparable(read_records(tmp_path / "a")) == comparable(read_records(tmp_path / "b"))
    assert again.summary.clean == fresh.summary.clean
    images = [sorted((tmp_path / name / "adversarials").rglob("*.safetensors")) for name in "ab"]
    assert [path.read_bytes() for path in images[0]] == [path.read_bytes() for path in images[1]]
    with pytest.raises(ChangedSampleError, match=r"1 \(toy_1\), 4 \(toy_4\)"):
        run(tmp_path / "a", old)
    run(tmp_path / "a", old, redo_changed=True)
    run(tmp_path / "c", old)
    assert comparable(read_records(tmp_path / "a")) == comparable(read_records(tmp_path / "c"))


def test_data_without_a_fingerprint_of_its_own_are_measured_anew_too(tmp_path):
    data = [(item["image"], item["mask"]) for item in map(ToyScenes(3).__getitem__, range(3))]
    changed = [(1 - data[0][0], data[0][1]), *data[1:]]
    run(tmp_path, data)
    with pytest.raises(ChangedSampleError, match=r"1 sample, 0 \(0\), is not the one"):
        run(tmp_path, changed)
    run(tmp_path, changed, redo_changed=True)
    run(tmp_path, changed, MORE)


def test_other_batches_a_kill_and_more_images_are_no_change(tmp_path):
    data = Scenes(6)
    run(tmp_path / "a", data, MORE)
    whole = comparable(read_records(tmp_path / "a"))
    run(tmp_path / "a", data, MORE, batch_size=3)
    assert comparable(read_records(tmp_path / "a")) == whole
    file = tmp_path / "a" / "records" / "rank000.jsonl"
    file.write_bytes(file.read_bytes()[:-1000])
    run(tmp_path / "a", data, MORE)
    assert comparable(read_records(tmp_path / "a")) == whole
    run(tmp_path / "b", data, MORE, max_images=2)
    run(tmp_path / "b", data, MORE)
    assert comparable(read_records(tmp_path / "b")) == whole


def test_processes_that_read_other_data_contradict_each_other(tmp_path):
    shares = [Distributed(rank=rank, world_size=2) for rank in range(2)]
    run(tmp_path / "a", Scenes(4), distributed=shares[0])
    run(tmp_path / "b", Scenes(4, one_pixel, (0, 1)), distributed=shares[0])
    with RecordWriter(tmp_path / "a", rank=1) as writer:
        writer.write(read_records(tmp_path / "b"))
    with pytest.raises(ContradictionError, match=r"a: records of 1 sample, 0 \(toy_0\), are of different"):
        read_records(tmp_path / "a")


def test_records_without_a_digest_are_compared_with_nothing(tmp_path):
    report = run(tmp_path, Scenes(2))
    bare = [replace(record, sample_digest="") for record in report.records]
    assert merge_records([*bare, *report.records]) == merge_records(bare)


def test_random_data_are_refused_before_they_are_attacked(tmp_path):
    def noisy(item):
        return {**item, "image": torch.rand_like(item["image"])}

    with pytest.raises(ValueError, match=r"sample 0 \(toy_0\) is another image or mask each time .*augmentation"):
        run(tmp_path, Scenes(3, noisy, range(3)))
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_a_sample_that_changes_while_the_engine_works_is_refused(tmp_path):
    run(tmp_path, Scenes(3))

    class Late(Scenes):
        def __getitem__(self, index):
            self.samples = (1,) if self.loaded.count(1) else ()
            return super().__getitem__(index)

    with pytest.raises(ChangedSampleError, match="toy_1"):
        run(tmp_path, Late(3, one_pixel), MORE)


def test_the_digest_is_of_every_bit():
    image, mask = torch.rand(3, 4, 5), torch.randint(0, 3, (4, 5))
    sample = LoadedSample(0, image, mask)
    other = mask.clone()
    other[3, 4] += 1
    changed = [
        LoadedSample(0, image.nextafter(torch.ones(())), mask),
        LoadedSample(0, image.double(), mask),
        LoadedSample(0, image.view(3, 5, 4), mask.view(5, 4)),
        LoadedSample(0, image, other),
    ]
    assert len({each.digest for each in (sample, *changed)}) == 5
    assert LoadedSample(1, image.transpose(1, 2).contiguous().transpose(1, 2), mask).digest == sample.digest


def test_records_say_what_they_count_and_bound(tmp_path):
    told = {(r.kind, r.unit, r.side, r.threat) for r in run(tmp_path, Scenes(2), MORE).records}
    everywhere = "linf ball everywhere"
    assert told == {
        ("clean", "pixel", "exact", "none"),
        *((kind, "pixel", "upper", everywhere) for kind in ("fixed-budget", "minimal-norm", "by-product")),
    }
