"""Run directories that somebody made to do harm: each entry changes a whole run, and says who must refuse it.

`hostile_runs_worker.py` puts each in front of every command and function that takes a run directory.
"""

import json
import os
import socket
import stat
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

EVERYONE = ("api", "compare", "judge", "report", "ensemble", "submit", "evaluate", "share")
READERS = ("api", "compare", "report", "ensemble", "submit", "evaluate")
JUDGES = ("judge", "submit")
WRITERS = ("evaluate", "share")
PAGES = ("report",)
NOBODY = ()


@dataclass(frozen=True)
class HostileRun:
    """A run: how it is changed, a pattern of the error, who must refuse it, and whether its numbers are others."""

    name: str
    change: Callable[[Path, Path], object]
    says: str
    refused_by: tuple[str, ...]
    other_numbers: bool = False

    @property
    def meets(self) -> tuple[str, ...]:
        """Who reads what is changed: files of tiles and of images are opened by few, and the others pass them over."""
        if self.refused_by == PAGES:
            return "report", "evaluate"
        is_image = self.name.startswith(("image", "judged"))
        return (*JUDGES, "evaluate") if {*self.refused_by} <= {*JUDGES} and is_image else EVERYONE


REGISTRY: dict[str, HostileRun] = {}
"""By name."""


def add(
    name: str,
    change: Callable[[Path, Path], object],
    says: str = "",
    refused_by: Iterable[str] = EVERYONE,
    *,
    other_numbers: bool = False,
) -> None:
    assert name not in REGISTRY, name
    REGISTRY[name] = HostileRun(name, change, says, tuple(refused_by), other_numbers)


# --- places in a run; the first image of the first attack stands for all


def shard(run: Path) -> Path:
    return run / "records" / "rank000.jsonl"


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in shard(run).read_text().splitlines()]


def write_records(run: Path, lines: Iterable[dict]) -> None:
    shard(run).write_text("".join(json.dumps(line) + "\n" for line in lines))


def image(run: Path, kind: str = "minimal-norm") -> Path:
    found = next(r for r in records(run) if r["kind"] == kind and r["sample_id"] == 0)
    return run / "adversarials" / found["digest"] / str(found["eps"]) / "000000.safetensors"


def panel(run: Path) -> Path:
    return sorted((run / "panels" / "tiles").glob("*/panel.json"))[0]


PLACES: dict[str, Callable[[Path], Path]] = {
    **{
        name: (lambda run, name=name: run / name)
        for name in (
            "manifest.json", "network.json", "provenance.jsonl", "progress.json", "summary.json", "summary.md",
            "report.html", "records", "records/rank000.jsonl", "records/rank007.jsonl", "records/current.json",
            "faults", "faults/rank000.jsonl", "checks", "checks/network.json", "tables", "tables/scores.csv",
            "pictures", "pictures/asr_linf.png", "panels", "panels/tiles", "adversarials", ".locks",
            ".locks/rank000.lock", ".locks/rank000.json", ".locks/gate.lock",
        )
    },
    "an image": image,
    "the folder of a radius": lambda run: image(run).parent,
    "the folder of an attack": lambda run: image(run).parents[1],
    "a panel": lambda run: sorted((run / "panels").glob("*.png"))[0],
    "a tile": lambda run: panel(run).with_name("image.webp"),
    "the description of tiles": panel,
    "the folder of tiles": lambda run: panel(run).parent,
}  # fmt: skip


def clear(path: Path) -> None:
    """Makes room for something else in the place of a file or folder."""
    if path.is_dir():
        os.rename(path, path.with_name(f"{path.name}-moved"))
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def is_folder(path: Path) -> bool:
    return path.is_dir() or path.name in ("faults", "checks")


def link(path: Path, outside: Path) -> None:
    folder = is_folder(path)
    clear(path)
    path.symlink_to(outside / ("folder" if folder else "secret.webp" if path.suffix == ".webp" else "secret"))


def fifo(path: Path) -> None:
    clear(path)
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    clear(path)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has at most 108 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    clear(path)
    try:
        os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))  # /dev/zero
    except OSError:
        os.mkfifo(path)


def other_kind(path: Path) -> None:
    """A file in the place of a folder, and a folder in the place of a file."""
    folder = is_folder(path)
    clear(path)
    if folder:
        path.write_text("{}\n")
    else:
        path.mkdir()


def hard_link(path: Path, outside: Path) -> None:
    clear(path)
    os.link(outside / "secret", path)


for _name, _place in PLACES.items():
    add(f"link: {_name}", lambda run, out, place=_place: link(place(run), out), r"is a link")
for _name in (
    "manifest.json", "network.json", "provenance.jsonl", "records/rank000.jsonl", "records/current.json",
    "faults/rank000.jsonl", "checks/network.json", ".locks/rank000.lock", "an image", "a tile",
    "the description of tiles", "panels", "report.html",
):  # fmt: skip
    add(f"pipe: {_name}", lambda run, out, place=PLACES[_name]: fifo(place(run)), r"named pipe")
for _name in ("manifest.json", "records/rank000.jsonl", "a tile"):
    add(f"socket: {_name}", lambda run, out, place=PLACES[_name]: bound_socket(place(run)), r"is a socket")
    add(f"device: {_name}", lambda run, out, place=PLACES[_name]: device(place(run)), r"is a device|named pipe")
_KIND = r"is a folder|is a regular file|Is a directory|holds no run"
for _name, _who in {
    "manifest.json": EVERYONE, "network.json": EVERYONE, "summary.json": EVERYONE, "report.html": EVERYONE,
    "progress.json": EVERYONE, "provenance.jsonl": EVERYONE, "records": EVERYONE, "panels": EVERYONE,
    "adversarials": EVERYONE, ".locks": EVERYONE, "tables": EVERYONE, "faults": EVERYONE,
    "records/rank000.jsonl": EVERYONE, "faults/rank000.jsonl": READERS, ".locks/rank000.lock": WRITERS,
    "records/current.json": EVERYONE, "checks/network.json": NOBODY, "pictures/asr_linf.png": NOBODY,
    "tables/scores.csv": PAGES, "an image": JUDGES, "a tile": PAGES, "the description of tiles": PAGES,
    ".locks/gate.lock": WRITERS,
}.items():  # fmt: skip
    add(f"other kind: {_name}", lambda run, out, place=PLACES[_name]: other_kind(place(run)), _KIND, _who)
for _name in ("records/rank000.jsonl", "provenance.jsonl", ".locks/rank000.lock", ".locks/gate.lock"):
    add(
        f"hard link: {_name}",
        lambda run, out, place=PLACES[_name]: hard_link(place(run), out),
        r"names of a file|is not strict JSON|is no record",
        ("evaluate",),
    )


# --- text that is no strict JSON, in every file that is read

DEEP = b"[" * 100_000
TEXTS: dict[str, bytes] = {
    "too deep": DEEP + b"\n",
    "nan": b'{"schema": NaN}\n',
    "infinity": b'{"schema": -Infinity}\n',
    "a key twice": b'{"schema": 1, "schema": 2}\n',
    "bytes": b"\xff\xfe\x00\n",
    "a large number": b'{"schema": 1e999}\n',
    "many digits": b'{"schema": ' + b"1" * 5000 + b"}\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "another schema": b'{"schema": 77}\n',
}
_FILES = {
    "manifest.json": EVERYONE,
    "network.json": ("evaluate",),
    "provenance.jsonl": READERS,
    "records/rank000.jsonl": EVERYONE,
    "records/current.json": EVERYONE,
    "faults/rank000.jsonl": READERS,
    "checks/network.json": READERS,
    "the description of tiles": PAGES,
}


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


_CHOSEN = {"manifest.json": tuple(TEXTS), "records/rank000.jsonl": tuple(TEXTS)}
for _name, _who in _FILES.items():
    for _kind in _CHOSEN.get(_name, ("too deep", "nan", "another schema")):
        add(
            f"{_name}: {_kind}",
            lambda run, out, place=PLACES[_name], content=TEXTS[_kind]: put(place(run), content),
            r"strict JSON|UTF-8|schema|nested|no record|missing or unknown|must be|key",
            _who,
        )


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


for _name, _who in _FILES.items():
    add(
        f"{_name}: 3 GB of nothing",
        lambda run, out, place=PLACES[_name]: put(place(run), b"") or sparse(place(run), 3 * 2**30),
        r"has at most",
        ("api", "compare", "report", "evaluate") if _name == "provenance.jsonl" else _who,
    )
for _name in ("manifest.json", "network.json", "the description of tiles"):
    add(
        f"{_name}: 5 million empty objects",
        lambda run, out, place=PLACES[_name]: put(place(run), b'{"schema":[' + b"{}," * (5 * 10**6) + b"1]}"),
        r"holds more values than are read",
        _FILES[_name],
    )
add(
    "records/rank000.jsonl: a line of 9 MB",
    lambda run, out: put(shard(run), b'["' + b"a" * (9 * 10**6) + b'"]\n'),
    r"has at most",
)


for _name in ("records", "adversarials", "panels", "checks", ".locks"):
    add(
        f"{_name}: folders nested 99 deep",
        lambda run, out, name=_name: (run / name / "/".join("x" * 99)).mkdir(parents=True),
        r"nested more than 8 folders deep",
    )


# --- records that no measurement gives


def change_record(place: int, **values: object) -> Callable[[Path, Path], None]:
    """Other values of a record: 0 is clean; see `kinds` in the worker for the rest."""

    def change(run: Path, outside: Path) -> None:
        lines = records(run)
        lines[place].update(values)
        write_records(run, lines)

    return change


def change_kind(kind: str, /, **values: object) -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        lines = records(run)
        next(line for line in lines if line["kind"] == kind).update(values)
        write_records(run, lines)

    return change


for _label, _kind, _values in (
    ("a success of nothing", "minimal-norm", {"success": True, "apsr": 0.0, "norm": 0.01}),
    ("a failure of all pixels", "fixed-budget", {"success": False, "apsr": 1.0}),
    ("an apsr of 7", "fixed-budget", {"apsr": 7.0}),
    ("an apsr that is text", "fixed-budget", {"apsr": "0.5"}),
    ("an apsr of nan", "fixed-budget", {"apsr": "nan"}),
    ("negative counts", "fixed-budget", {"tp": [-5, 0, 0, 0]}),
    ("counts of other sums", "fixed-budget", {"tp": [99, 0, 0, 0]}),
    ("counts of text", "fixed-budget", {"fp": ["1", 0, 0, 0]}),
    ("counts of more classes", "fixed-budget", {"tp": [0] * 9, "fp": [0] * 9, "fn": [0] * 9, "num_valid": 0}),
    ("a negative number of pixels", "fixed-budget", {"num_valid": -3}),
    ("a negative norm", "fixed-budget", {"norm": -0.1}),
    ("a norm beyond the box", "minimal-norm", {"norm": 1.5, "success": False}),
    ("a norm above the radius", "fixed-budget", {"norm": 0.9}),
    ("a by-product above the radius", "by-product", {"norm": 0.9}),
    ("a norm of nan", "minimal-norm", {"norm": "nan"}),
    ("a norm of 1e308", "minimal-norm", {"norm": 1e308, "success": False}),
    ("a radius of 1e308", "fixed-budget", {"eps": 1e308}),
    ("a radius of the manifest's lack", "fixed-budget", {"eps": 0.9, "norm": 0.01}),
    ("a radius below 0", "fixed-budget", {"eps": -1}),
    ("an attack that the manifest lacks", "fixed-budget", {"digest": "0123456789abcdef"}),
    ("an attack of another kind", "minimal-norm", {"kind": "fixed-budget", "eps": 0.0627, "norm": 0.0}),
    ("an attack of another norm", "fixed-budget", {"norm_name": "l2"}),
    ("a digest that is a path", "fixed-budget", {"digest": "../../etc"}),
    ("an attack that is a path", "fixed-budget", {"attack": "../../etc"}),
    ("an attack that is a formula of TeX", "fixed-budget", {"attack": "$\\frac{$"}),
    ("another seed", "fixed-budget", {"seed": 3}),
    ("a negative seed", "fixed-budget", {"seed": -3}),
    ("a sample of text", "fixed-budget", {"sample_id": "0"}),
    ("a sample below 0", "fixed-budget", {"sample_id": -1}),
    ("a name that is a list", "fixed-budget", {"sample_name": ["a"]}),
    ("a name of a megabyte", "fixed-budget", {"sample_name": "a" * 2**20}),
    ("a clean image with a norm", "clean", {"norm": 0.5}),
    ("a clean image of another threat", "clean", {"kind": "proof"}),
    ("seconds of infinity", "fixed-budget", {"seconds": "inf"}),
    ("seconds below 0", "fixed-budget", {"seconds": -1}),
    ("flags of others", "fixed-budget", {"flags": ["trusted"]}),
    ("the flag of a void image", "fixed-budget", {"flags": ["no-valid-pixel"]}),
    ("borders of more pixels", "clean", {"boundary": [1000, 999]}),
    ("objects of more pixels", "clean", {"objects": [[1, 1, 10**9, 0], [0, 0, 0, 0], [0, 0, 0, 0]]}),
    ("schema 2", "clean", {"schema": 2}),
    ("schema true", "clean", {"schema": True}),
    ("an unknown field", "clean", {"run": "rm"}),
):  # fmt: skip
    _where = r"rank000\.jsonl, line|records|manifest"
    add(f"record: {_label}", change_kind(_kind, **_values), _where)


add(
    "record: a norm of 1e-320, which the image does not have",
    change_kind("minimal-norm", norm=1e-320),
    r"norm .*recorded",
    ("judge",),  # to a bench, the norm of a record is nothing
    other_numbers=True,
)


def drop_field(run: Path, outside: Path) -> None:
    lines = records(run)
    del lines[1]["apsr"]
    write_records(run, lines)


add("record: a field is missing", drop_field, r"line 2.*apsr")


def twice(**values: object) -> Callable[[Path, Path], None]:
    """A second record of one measurement, in another file."""

    def change(run: Path, outside: Path) -> None:
        line = next(line for line in records(run) if line["kind"] == "fixed-budget")
        (run / "records" / "rank001.jsonl").write_text(json.dumps({**line, **values}) + "\n")

    return change


def moved_pixels(run: Path, outside: Path) -> None:
    line = next(line for line in records(run) if line["kind"] == "fixed-budget")
    most = line["tp"].index(max(line["tp"]))
    if not line["tp"][most]:
        most = line["fn"].index(max(line["fn"]))
        line["tp"][most], line["fn"][most] = line["fn"][most], 0
        line["fp"] = [sum(line["fn"]), 0, 0, 0]
    else:
        line["fn"][most], line["tp"][most] = line["fn"][most] + line["tp"][most], 0
        line["fp"] = [sum(line["fn"]), 0, 0, 0]
    (run / "records" / "rank001.jsonl").write_text(json.dumps(line) + "\n")


_TWO = r"two records that differ|different images|no record|contradict|threshold"
add("record: twice, with another norm", twice(norm=0.001), _TWO)
add("record: twice, with another digest of the image", twice(sample_digest="00ff"), r"different images")
add("record: twice, with other counts", moved_pixels, _TWO)
add("record: twice, by rounding", twice(seconds=3.0), refused_by=NOBODY)
add(
    "record: the same shard twice", lambda run, out: put(run / "records/rank001.jsonl", shard(run).read_bytes()), "", ()
)
add("record: an unfinished line", lambda run, out: put(shard(run), shard(run).read_bytes() + b'{"sample_'), "", ())
add(
    "record: of a sample that is not of the run",
    lambda run, out: write_records(run, [*records(run), {**records(run)[0], "sample_id": 10**12}]),
    "",
    (),
)
add("record: an empty line", lambda run, out: put(shard(run), b"\n" + shard(run).read_bytes()), r"line 1")
add(
    "record: carriage returns",
    lambda run, out: put(shard(run), shard(run).read_bytes().replace(b"\n", b"\r\n")),
    "",
    (),
)
add("record: none", lambda run, out: shard(run).unlink(), "", JUDGES, other_numbers=True)
add("record: half of them", lambda run, out: write_records(run, records(run)[::2]), "", ("judge",), other_numbers=True)
add("record: 200 files", lambda run, out: [put(run / f"records/rank{n:03d}.jsonl", b"") for n in range(1, 200)], "", ())

KIND = {"records": "jsonl", "faults": "jsonl", ".locks": "lock"}
for _name in KIND:
    _who = WRITERS if _name == ".locks" else READERS if _name == "faults" else EVERYONE
    add(
        f"record: 5000 files in {_name}",
        lambda run, out, name=_name: [
            put(run / name / f"rank{n:05d}.{KIND[name]}", b"") for n in range(10**4, 3 * 10**4)
        ],
        r"has at most 4096 files",
        _who,
    )

NAMES = {
    "half a pair": "\ud800 and \udfff",
    "an escape": "\x1b]0;owned\x07\x1b[2J",
    "a line end": "a\nsegrobust: everything is fine",
    "a mark of direction": "a\u202egnp.exe",
    "a formula": '=HYPERLINK("http://example.com")',
    "a script": "<script>alert(1)</script>",
    "markup of rich": "[bold red]robust[/] [link=file:///etc/passwd]x[/link]",
    "a path": "../../../etc/passwd",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "markdown": "![x](http://example.com/y.png) | `",
    "tex": "$\\frac{$ %s %n",
}


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- manifests


def manifest(**values: object) -> Callable[[Path, Path], None]:
    return lambda run, outside: edit(run / "manifest.json", **values)


def entries(**values: object) -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        attacks = json.loads((run / "manifest.json").read_text())["attacks"]
        attacks[0].update(values)
        edit(run / "manifest.json", attacks=attacks, planned=attacks)

    return change


_SPACE = {"names": ["a", "b"], "palette": [[1, 2, 3], [4, 5, 6]], "ignore_index": 255}
for _label, _change in {
    "samples below 0": manifest(samples=[0, -1]),
    "samples twice": manifest(samples=[0, 0]),
    "samples as text": manifest(samples="01"),
    "schema 1": manifest(schema=1),
    "schema 99": manifest(schema=99),
    "a seed that is true": manifest(seed=True),
    "weights as a number": manifest(weights=5),
    "an unknown field": manifest(run="rm"),
    "a size that is none": manifest(image_size="large"),
    "classes as a list": manifest(label_space=[]),
    "classes with an escape": manifest(label_space={**_SPACE, "names": ["a", "\x1b[2J"]}),
    "colours beyond 255": manifest(label_space={**_SPACE, "palette": [[1, 2, 999], [4, 5, 6]]}),
    "an attack named by a path": entries(name="../pgd"),
    "an attack with a path as digest": entries(digest=".."),
    "an attack of another kind": entries(kind="proof"),
    "an attack of radius nan": entries(eps=["nan"]),
    "an attack of radius 1e308": entries(eps=[1e308]),
    "an attack of radius 0": entries(eps=[0.0]),
    "an attack in another norm": entries(norm_name="l7"),
    "two attacks of one name": lambda run, out: edit(
        run / "manifest.json", attacks=json.loads((run / "manifest.json").read_text())["attacks"] * 2
    ),
    "weights as a path": manifest(weights="../../../etc"),
    "precision of another machine": manifest(precision="rm -rf\n/"),
}.items():
    add(f"manifest: {_label}", _change, r"manifest|schema|records", EVERYONE)
for _label, _change in {
    "no attack": manifest(attacks=[], planned=[]),
    "an attack that is not planned before": manifest(attacks=[]),
}.items():  # a training adds its own attacks before it reads
    add(f"manifest: {_label}", _change, r"manifest|schema|records", [name for name in EVERYONE if name != "share"])
add("manifest: classes of fewer numbers", manifest(label_space=_SPACE), r"counts of 4 classes", (*READERS, *JUDGES))
for _label, _criterion in {
    "code": "Untargeted(apsr=__import__('os').system('true'))",
    "a share of 9": "Untargeted(apsr=9)",
    "a share that is none": "Untargeted(apsr=.)",
    "a share of 1e-999": "Untargeted(apsr=1e-999)",
    "another one": "Untargeted(apsr=0.1)",
}.items():
    add(
        f"manifest: criterion: {_label}",
        manifest(criterion=_criterion),
        r"criterion|apsr|records",
        ("judge", "evaluate"),
    )
add("manifest: an attack of other settings", entries(attack="PGD(eps=\ud800)"), "its digest", ("submit",))
add(
    "manifest: missing",
    lambda run, out: (run / "manifest.json").unlink(),
    "holds no run",
    ("api", "compare", "judge", "report"),
)
add("manifest: a million samples", manifest(samples=[*range(10**6)]), r"must be a list of 0 to 262144", EVERYONE)
add("manifest: 100000 samples", manifest(samples=[*range(10**5)]), "", (), other_numbers=True)
add("manifest: samples of 2**40", manifest(samples=[0, 1, 2**40]), "", (), other_numbers=True)
add("manifest: a description of 60000 letters", manifest(network_description="W" * 60_000), "manifest", EVERYONE)
add("manifest: another network", manifest(weights="00" * 32), "weights", ("evaluate", "share"))


# --- the other files


def network(**values: object) -> Callable[[Path, Path], None]:
    return lambda run, outside: edit(run / "network.json", **values)


def probe(**values: object) -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        probes = json.loads((run / "network.json").read_text())["probes"]
        probes[0].update(values)
        edit(run / "network.json", probes=probes)

    return change


_NANS = {"shape": [4, 8, 9], "float32": b64encode(struct.pack("<f", float("nan")) * 4 * 8 * 9).decode()}
_HUGE = {"shape": [2**16, 2**16, 2**16], "float32": ""}
for _label, _change, _who in (
    ("logits of another size", probe(logits={"shape": [4, 8, 10], "float32": "AAAA"}), ("evaluate",)),
    ("logits of a petabyte", probe(logits=_HUGE), ("evaluate",)),
    ("logits of nan", probe(logits=_NANS), ("evaluate",)),
    ("logits that are no base64", probe(logits={"shape": [1, 1, 1], "float32": "!!!!"}), ("evaluate",)),
    ("a probe of no sample", probe(sample_id=10**9), ()),
    ("a probe of another image", probe(sample_digest="ff"), ()),
    ("rounding of infinity", probe(rounding="inf"), ("evaluate",)),
    ("many probes", network(probes=[{}] * 1000), ("evaluate",)),
    ("another module", network(modules={"": "os.system"}), ("evaluate",)),
    ("modules with escapes", network(modules={"\x1b[2J": "x\n"}), ("evaluate",)),
    ("modules as a list", network(modules=[]), ("evaluate",)),
    ("missing", lambda run, out: (run / "network.json").unlink(), ()),
):
    add(f"network: {_label}", _change, r"network|another function", _who)


def checks(**values: object) -> Callable[[Path, Path], None]:
    check = {"name": "a", "status": "ok", "detail": "b", "meaning": "c", "fix": "", "attacks": []}
    content = {"schema": 1, "weights": "00", "status": "ok", "checks": [{**check, **values}]}
    return lambda run, outside: put(run / "checks" / "network.json", json.dumps(content).encode())


add("checks: another status", checks(status="fine"), "checks", READERS)
add("checks: a fix that is a number", checks(fix=3), "checks", READERS)
add("checks: a fix without need", checks(fix="rm"), "checks", READERS)
add("checks: attacks that are a text", checks(attacks="x"), "checks", READERS)


def provenance(**values: object) -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        line = json.loads((run / "provenance.jsonl").read_text().splitlines()[0])
        (run / "provenance.jsonl").write_text(json.dumps({**line, **values}) + "\n")

    return change


add("provenance: a command that is text", provenance(command="rm"), "provenance", READERS)
add("provenance: threads below 0", provenance(threads=-1), "provenance", READERS)
add("provenance: missing", lambda run, out: (run / "provenance.jsonl").unlink(), "", ())


def described(**values: object) -> Callable[[Path, Path], None]:
    return lambda run, outside: edit(panel(run), **values)


for _label, _change in {
    "a size of 0": described(size=[0, 0]),
    "a size of 2**40": described(size=[2**40, 1]),
    "a colour that is text": described(legend=[["a", "red; background: url(x)"]]),
    "a factor of text": described(factor="1"),
    "a norm below 0": described(norm=-1),
    "an apsr of 7": described(apsr=7),
    "a radius of 0": described(eps=0),
    "schema 2": described(schema=2),
}.items():
    add(f"panel: {_label}", _change, r"panel\.json", PAGES)
for _label, _content in {
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n(x) (w) file closefile showpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "a png": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "html": b"<!doctype html><script>alert(1)</script>",
    "nothing": b"",
}.items():
    add(
        f"panel: a tile that is {_label}",
        lambda run, out, content=_content: put(panel(run).with_name("image.webp"), content),
        r"image\.webp is no picture",
        PAGES,
    )
add(
    "panel: a picture that is postscript",
    lambda run, out: put(PLACES["a panel"](run), b"%!PS-Adobe-3.0 EPSF-3.0\n(x) (w) file closefile showpage\n"),
    "",
    (),
)
add(
    "panel: tiles of 16 MB each",
    lambda run, out: [sparse(file, 2**24, b"RIFF0000WEBP") for file in panel(run).parent.glob("*.webp")],
    "",
    (),
)
add("panel: no tile", lambda run, out: [file.unlink() for file in panel(run).parent.glob("*.webp")], "", ())
add("panel: a png with an escape in its name", lambda run, out: put(run / "panels" / "0-\x1b[2J\nx.png", b""), "", ())


# --- text of any kind, wherever text may stand


def renamed(text: str) -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        write_records(run, [{**line, "sample_name": text, "sequence": text} for line in records(run)])
        fault = {
            "sample_id": 1, "sample_name": text, "stage": "attack", "attack": text, "digest": "00ff", "eps": 0.1,
            "error": text, "traceback": text, "schema": 1,
        }  # fmt: skip
        put(run / "faults" / "rank000.jsonl", json.dumps(fault).encode() + b"\n")
        edit(panel(run), sample_name=text, job=text, legend=[[text, [1, 2, 3]]])
        edit(run / "manifest.json", data_description=text, network_description=text)
        checks(name=text, status="fail", detail=text, meaning=text, fix=text)(run, outside)
        provenance(command=[text], commit=text, device=text, versions=[text])(run, outside)

    return change


for _label, _text in NAMES.items():
    add(f"text: {_label}", renamed(_text), "", ())


# --- adversarial images


def safetensors(header: object, content: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(dtype: str = "F32", shape: Iterable[int] = (3, 8, 9), end: int | None = None) -> dict:
    size = 4 * 3 * 8 * 9
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [0, size if end is None else end]}


ZEROS = bytes(4 * 3 * 8 * 9)
for _label, _content in {
    "nothing": b"",
    "a header of 2**63 bytes": safetensors({"adv": entry()}, ZEROS, 2**63),
    "a header of 3 bytes": safetensors({"adv": entry()}, ZEROS, 3),
    "a header too deep": safetensors(b'{"adv":' + DEEP, ZEROS),
    "a shape of 2**62": safetensors({"adv": entry(shape=(2**31, 2**31, 1))}, ZEROS),
    "a shape below 0": safetensors({"adv": entry(shape=(-3, 8, 9))}, ZEROS),
    "another shape": safetensors({"adv": entry(shape=(3, 9, 8))}, ZEROS),
    "a shape of nothing": safetensors({"adv": entry(shape=(3, 0, 9), end=0)}),
    "doubles": safetensors({"adv": entry("F64", (3, 4, 9))}, ZEROS),
    "half precision": safetensors({"adv": entry("BF16", (3, 16, 9))}, ZEROS),
    "8-bit floats": safetensors({"adv": entry("F8_E8M0", (3, 32, 9))}, ZEROS),
    "4-bit floats": safetensors({"adv": entry("F4", (3, 64, 9))}, ZEROS),
    "a type that is none": safetensors({"adv": entry("RM", (3, 8, 9))}, ZEROS),
    "offsets beyond the end": safetensors({"adv": entry(end=2**40)}, ZEROS),
    "offsets that are text": safetensors({"adv": {**entry(), "data_offsets": "01"}}, ZEROS),
    "another name": safetensors({"\x1b[2J": entry()}, ZEROS),
    "two images": safetensors({"adv": entry(), "adv2": {**entry(shape=(0,)), "data_offsets": [864, 864]}}, ZEROS),
    "metadata of a megabyte": safetensors({"adv": entry(), "__metadata__": {"a": "b" * 2**20}}, ZEROS),
    "nan": safetensors({"adv": entry()}, struct.pack("<f", float("nan")) * 216),
    "infinity": safetensors({"adv": entry()}, struct.pack("<f", float("inf")) * 216),
    "more bytes than it says": safetensors({"adv": entry()}, ZEROS + b"more"),
    "a pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
    "html": b"<!doctype html><title>Sign in</title>" * 9,
}.items():
    add(
        f"image: {_label}",
        lambda run, out, content=_content: image(run).write_bytes(content),
        r"000000\.safeten",
        JUDGES,
    )
add(
    "image: 1 GB of nothing",
    lambda run, out: sparse(image(run), 2**30, safetensors({"adv": entry(shape=(2**14, 2**12, 4), end=2**30)})),
    r"has at most",
    JUDGES,
)


def copied(name: str, folder: str | None = None, attack: str | None = None) -> Callable[[Path, Path], None]:
    """The same image under another name, radius or attack."""

    def change(run: Path, outside: Path) -> None:
        source = image(run)
        target = run / "adversarials" / (attack or source.parents[1].name) / (folder or source.parent.name) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())

    return change


for _label, _change in {
    "no number": copied("x.safetensors"),
    "a number below 0": copied("-00001.safetensors"),
    "digits of another script": copied("\u0660\u0660\u0661.safetensors"),
    "an escape": copied("\x1b[2J.safetensors"),
    "a line end": copied("000000\n.safetensors"),
    "a radius of nan": copied("000000.safetensors", "nan"),
    "a radius of infinity": copied("000000.safetensors", "inf"),
    "a radius below 0": copied("000000.safetensors", "-0.1"),
    "a radius in another spelling": copied("000000.safetensors", "6e-2"),
    "an attack with an escape": copied("000000.safetensors", None, "\x1b[2J"),
    "an attack without records": copied("000000.safetensors", None, "0123456789abcdef"),
    "a sample without records": copied("000077.safetensors"),
    "a sample of many digits": copied(f"{'9' * 200}.safetensors"),
}.items():
    add(f"image name: {_label}", _change, r"no adversarial image|another name|has no record", ("judge",))
add("images: none", lambda run, out: os.rename(run / "adversarials", run.parent / "gone"), "stored no adv", JUDGES)


def judged(edit_image: Callable, kind: str = "fixed-budget") -> Callable[[Path, Path], None]:
    """Another image in the place of a stored one, which the records are not of."""

    def change(run: Path, outside: Path) -> None:
        import torch
        from evaluation.toy import ToyScenes
        from safetensors.torch import load_file, save_file

        path = image(run, kind)
        adv, clean = load_file(path)["adv"].clone(), ToyScenes(1)[0]["image"]
        save_file({"adv": edit_image(torch, adv, clean).contiguous()}, path)

    return change


for _label, _change, _says in (
    ("the clean image, as a success", judged(lambda torch, adv, clean: clean), r"recorded|norm"),
    ("outside the box", judged(lambda torch, adv, clean: adv - 0.01 - adv.min()), r"outside \[0, 1\]"),
    ("far outside the box", judged(lambda torch, adv, clean: adv * 1e30), r"outside \[0, 1\]"),
    ("beyond the radius", judged(lambda torch, adv, clean: 1 - clean), r"above the radius"),
    ("another norm", judged(lambda torch, adv, clean: 1 - clean, "minimal-norm"), r"recorded"),
):
    add(f"judged: {_label}", _change, _says, ("judge",))  # `submit` judges images itself, and leaves such ones out


# --- what other commands left


def leave(name: str, content: bytes = b"") -> Callable[[Path, Path], None]:
    def change(run: Path, outside: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)

    return change


LEFT = (
    leave(".locks/rank003.lock", b"1\nhost\n"),
    leave(f".locks/rank{'9' * 40}.lock"),
    leave(".locks/rankx.lock"),
    leave(".locks/rank000.softlock", b"\xff" * 4096),
    leave(".locks/rank001.json", b'{"purpose": "x"}'),
    leave(".locks/rank000.json", DEEP),
    leave("records/.current.json.00.tmp", b"{"),
    leave("judged/00/judgement.json", b"{}"),
    leave("report.html", b"<script>alert(1)</script>"),
    leave("progress.json", DEEP),
    leave("summary.json", b'{"miou": 100}'),
    lambda run, out: (run / "records" / ".x.tmp" / "y").mkdir(parents=True),
    lambda run, out: (run / ".shared-1" / "y").mkdir(parents=True),
)
add("left: locks, signs and temporary files", lambda run, out: [change(run, out) for change in LEFT], "", ())
LINKS = {".shared-2": "secret", ".manifest.json.0.tmp": "secret", ".shared-3": "folder", "extra": "folder"}
add(
    "left: links that a sweep removes, and one that nobody reads",
    lambda run, out: [(run / name).symlink_to(out / target) for name, target in LINKS.items()],
    "",
    (),
)


def emptied(run: Path, outside: Path) -> None:
    os.rename(run, run.parent / "moved")
    run.mkdir()


add("left: nothing", emptied, "holds no run", ("api", "compare", "judge", "report"), other_numbers=True)  # other times
