"""Bench folders that somebody made to do harm: each entry changes a true bench, and says who must refuse it."""

import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from evaluation.hostile_runs import DEEP, NAMES, TEXTS, HostileRun, device, fifo, hard_link, other_kind, put, sparse

from segrobust.evaluation.bench.witness import content_digest

EVERY_COMMAND = ("verify", "submit", "page", "compare")
PASSES = ("verify", "submit")
"""Commands that read witnesses."""

FILE = "toy_linf.json"
BENCHES: dict[str, HostileRun] = {}
"""By name."""

Change = Callable[[Path, Path], object]


def add(name: str, change: Change, says: str, refused_by: Iterable[str] = EVERY_COMMAND) -> None:
    assert name not in BENCHES, name
    BENCHES[name] = HostileRun(name, change, says, tuple(refused_by))


def witness(bench: Path) -> Path:
    """Of the first attack."""
    entries = json.loads((bench / FILE).read_text())["entries"]
    return bench / "witnesses" / f"{next(e['witness'] for e in entries if e['eps'] is not None)}.witness"


def sample(bench: Path) -> Path:
    """The stored image of the first sample, which is looked at where the data set gives another one."""
    return bench / "samples" / f"{json.loads((bench / FILE).read_text())['images'][0]['sample']}.sample"


def other_image(bench: Path) -> None:
    """Gives the first image another digest, so that the stored one is read."""
    edited(lambda file: file["images"][0].update(image="00"))(bench, bench)


PLACES: dict[str, Callable[[Path], Path]] = {
    "the file": lambda bench: bench / FILE,
    "another file": lambda bench: bench / "other_l2.json",
    "the folder of witnesses": lambda bench: bench / "witnesses",
    "a witness": witness,
    "the folder of locks": lambda bench: bench / ".locks",
    "the lock": lambda bench: bench / ".locks" / "bench.lock",
}
READ_BY = {"the file": EVERY_COMMAND, "another file": ("verify", "page", "compare"), "the folder of locks": ("submit",)}
READ_BY |= {"the lock": ("submit",), "the folder of witnesses": PASSES, "a witness": PASSES}
_ODD = r"is a link|named pipe|is a device|is a folder|is a regular file|hard links|strict JSON|digest|Is a directory"


def link(path: Path, outside: Path) -> None:
    folder = path.is_dir() or path.name == ".locks"
    if path.is_dir():
        os.rename(path, path.with_name(f"{path.name}-moved"))
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside / ("folder" if folder else "secret"))


for _name, _place in PLACES.items():
    _who = READ_BY[_name]
    add(f"link: {_name}", lambda bench, out, place=_place: link(place(bench), out), _ODD, _who)
    if not _name.startswith("the folder"):
        add(f"pipe: {_name}", lambda bench, out, place=_place: fifo(place(bench)), _ODD, _who)
        add(f"device: {_name}", lambda bench, out, place=_place: device(place(bench)), _ODD, _who)
        add(f"hard link: {_name}", lambda bench, out, place=_place: hard_link(place(bench), out), _ODD, _who)
    add(f"other kind: {_name}", lambda bench, out, place=_place: other_kind(place(bench)), _ODD, _who)
add("a dangling link: the file", lambda bench, out: link(bench / FILE, out / "nothing"), _ODD)


# --- the file


def edited(edit: Callable[[dict], object]) -> Change:
    def change(bench: Path, outside: Path) -> None:
        file = json.loads((bench / FILE).read_text())
        edit(file)
        (bench / FILE).write_text(json.dumps(file))

    return change


for _kind, _text in TEXTS.items():
    add(
        f"file: {_kind}",
        lambda bench, out, text=_text: put(bench / FILE, text),
        r"strict JSON|UTF-8|schema|nested|missing or unknown|object with fields|occurs twice|too large|number",
    )
add("file: nothing", lambda bench, out: put(bench / FILE, b""), "strict JSON")
add("file: 3 GB of nothing", lambda bench, out: sparse(bench / FILE, 3 * 2**30), "has at most")
add("file: 5 million objects", lambda bench, out: put(bench / FILE, b'{"a":[' + b"{}," * (5 * 10**6) + b"1]}"), "")
add(
    "file: another name",
    lambda bench, out: os.rename(bench / FILE, bench / "\x1b[2J_linf.json"),
    "is named",
    ("verify", "page", "compare"),
)


def many(num: int) -> Change:
    """So many images with a witness each, in every cell."""

    def edit(file: dict) -> None:
        image, entry = file["images"][0], next(e for e in file["entries"] if e["sample_id"] == 0)
        names = [f"{number:032x}" for number in range(num)]
        file["images"] = [{**image, "sample_id": number, "sample": name} for number, name in enumerate(names)]
        file["entries"] = [{**entry, "sample_id": number, "witness": name} for number, name in enumerate(names)]
        file["norms"], file["radii"] = names, []

    return edited(edit)


add("file: 20000 images", many(20_000), r"the sample of image 0 .* is another one", PASSES)
_FIELDS = r"is no bench file|contradicts itself|a bench is of Untargeted"
for _label, _edit in {
    "images that are none": lambda f: f.update(images=[]),
    "images as a mapping": lambda f: f.update(images={}),
    "an image that is a list": lambda f: f.update(images=[[]]),
    "a sample below 0": lambda f: f["images"][0].update(sample_id=-1),
    "a sample of text": lambda f: f["images"][0].update(sample_id="0"),
    "a name of a megabyte": lambda f: f["images"][0].update(name="a" * 2**20),
    "a digest that is a path": lambda f: f["images"][0].update(sample="../../secret"),
    "a witness that is a path": lambda f: f["entries"][0].update(witness="../../../secret"),
    "no valid pixel": lambda f: f["images"][0].update(num_valid=0),
    "2**50 valid pixels": lambda f: f["images"][0].update(num_valid=2**50),
    "negative counts": lambda f: f["entries"][0].update(tp=[-1, 0, 0, 0]),
    "counts of text": lambda f: f["entries"][0].update(fp="0000"),
    "counts of other sums": lambda f: f["entries"][0].update(tp=[2**39] * 4),
    "another number of classes": lambda f: f.update(num_classes=3),
    "a norm of text": lambda f: f["entries"][0].update(norm="0"),
    "a norm of 1e308": lambda f: f["entries"][0].update(norm=1e308),
    "a norm of -0.1": lambda f: f["entries"][0].update(norm=-0.1),
    "a radius of 0": lambda f: f["radii"][0].update(eps=0),
    "a radius of nan": lambda f: f["radii"][0].update(eps="nan"),
    "radii in another order": lambda f: f["radii"].reverse(),
    "an accuracy of 7": lambda f: f["radii"][0].update(accuracy=7),
    "a cell of none": lambda f: f["radii"][0]["worst_miou"].__setitem__(0, None),
    "fewer cells": lambda f: f["norms"].pop(),
    "an entry of no image": lambda f: f["entries"][0].update(sample_id=99),
    "an attack that is not listed": lambda f: f.update(attacks={}),
    "attacks as a list": lambda f: f.update(attacks=[]),
    "a criterion of code": lambda f: f.update(criterion="Untargeted(apsr=__import__('os').system('true'))"),
    "a criterion of 9": lambda f: f.update(criterion="Untargeted(apsr=9)"),
    "a criterion of 1e-999": lambda f: f.update(criterion="Untargeted(apsr=1e-999)"),
    "a network that is a path": lambda f: f.update(network="../toy"),
    "a network with an escape": lambda f: f.update(network="\x1b[2J"),
    "another norm": lambda f: f.update(norm_name="l7"),
    "a void label of text": lambda f: f.update(ignore_index="255"),
    "schema true": lambda f: f.update(schema=True),
    "an unknown field": lambda f: f.update(run="rm"),
}.items():
    add(f"file: {_label}", edited(_edit), _FIELDS)
for _label, _edit, _says in (
    ("weights of others", lambda f: f.update(weights="00"), "another one: weights|another weights"),
    ("another void label", lambda f: f.update(ignore_index=-5), "holds other values|another ignore_index"),
    ("half a pair in an attack", lambda f: f.update(attacks=dict.fromkeys(f["attacks"], "\ud800")), "settings"),
    ("an attack of code", lambda f: f.update(attacks=dict.fromkeys(f["attacks"], "__import__('os')")), "settings"),
    ("a smaller norm", lambda f: next(e for e in f["entries"] if e["norm"]).update(norm=1e-9), "norm"),
    ("a lower accuracy", lambda f: f["radii"][0].update(accuracy=0.0), "accuracy"),
):
    add(f"file: {_label}", edited(_edit), _says, PASSES)
for _label, _text in NAMES.items():
    add(
        f"text: {_label}",
        edited(lambda f, text=_text: (f.update(data=text), f["images"][0].update(name=text))),
        "",
        (),
    )


# --- witnesses, whose name is the digest of their content


def forged(content: Callable[[bytes], bytes]) -> Change:
    """Another witness in the place of the first one, with a digest that fits."""

    def change(bench: Path, outside: Path) -> None:
        path = witness(bench)
        new = content(path.read_bytes())
        path.unlink()
        (path.parent / f"{content_digest(new)}.witness").write_bytes(new)
        file = bench / FILE
        file.write_text(file.read_text().replace(path.stem, content_digest(new)))

    return change


def header(**values: object) -> Change:
    def content(old: bytes) -> bytes:
        line, _, packed = old.partition(b"\n")
        return json.dumps({**json.loads(line), **values}).encode() + b"\n" + packed

    return forged(content)


def packed(values: bytes) -> Change:
    return forged(lambda old: old.partition(b"\n")[0] + b"\n" + values)


for _label, _change in {
    "nothing": forged(lambda old: b""),
    "a pickle": forged(lambda old: b"\x80\x04cposix\nsystem\n(S'true'\ntR."),
    "a header too deep": forged(lambda old: DEEP[:4000] + b"\n"),
    "a header of a megabyte": forged(lambda old: b'{"a": "' + b"a" * 400 + b'"}' + b" " * 4000 + b"\n"),
    "a shape of 2**48": header(shape=[2**16, 2**16, 2**16]),
    "a shape of 0": header(shape=[3, 0, 9]),
    "another shape": header(shape=[3, 9, 8]),
    "a step of infinity": header(step="inf"),
    "a step of -1": header(step=-1),
    "a step of 1": header(step=1),
    "levels of objects": header(levels="object"),
    "another image": header(image="00"),
    "a bomb": packed(zlib.compress(bytes(2**28), 9)[:800]),
    "a bomb within the limit": packed(zlib.compress(bytes(800 * 1000), 9)),
    "no zlib": packed(b"\xff" * 99),
    "cut": forged(lambda old: old[:-5]),
    "more bytes than it says": forged(lambda old: old + b"more"),
}.items():
    add(f"witness: {_label}", _change, "witness", PASSES)
add("witness: 1 GB of nothing", lambda bench, out: sparse(witness(bench), 2**30), "has at most", PASSES)
for _label, _make in {
    "nothing": lambda path: put(path, b""),
    "1 GB of nothing": lambda path: put(path, b"") or sparse(path, 2**30),
    "a bomb": lambda path: put(path, zlib.compress(bytes(4 * 10**5), 9)),
    "other pixels": lambda path: put(path, zlib.compress(bytes(4 * 8 * 9))),
    "a pipe": lambda path: path.parent.mkdir(exist_ok=True) or fifo(path),
}.items():
    add(
        f"sample: {_label}",
        lambda bench, out, make=_make: (make(sample(bench)), other_image(bench)),
        r"another one|sample|has at most|named pipe",
        PASSES,
    )
add("left: files of others", lambda bench, out: (put(bench / "x.txt", b""), put(bench / "witnesses/x", b"")), "", ())
