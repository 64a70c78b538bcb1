"""Digests of results, one line each, so that a refactor can show that it changes none.

    python -m benchmarks.digests > before.txt    # then, after the change:
    python -m benchmarks.digests | diff before.txt -

Every attack of the conformance battery in float32 and float64, the records of an evaluation with two attacks, of one
with targets, of the transfer of its adversarial images to another network, and what the callback logs in a short
training. Digests are compared on one machine: other processors and versions of torch give other last bits.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from callbacks.tiny import OtherProject, TinyPairs, loader, make_trainer
from conformance import BATTERY, ConvNetwork, call, make_batch
from evaluation.toy import CRITERION, ToyScenes, toy_network, toy_plan

from segrobust.attacks import PGD, AlmaProx, Attack, AttackResult, LagrangianFMN, Targeted
from segrobust.attacks.targets import SecondBest
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import Record, evaluate, evaluate_stored, read_records

TIMES = {"seconds"}


def digest(values: Iterable[object]) -> str:
    """12 hex digits of tensors' bytes and of everything else's repr, in their order."""
    state = hashlib.sha256()
    for value in values:
        state.update(value.cpu().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    return state.hexdigest()[:12]


def attack_lines() -> Iterator[str]:
    """Every tensor of the result of every attack."""
    for dtype in (torch.float64, torch.float32):
        network = ConvNetwork(dtype=dtype)
        batch = make_batch(network, dtype=dtype)
        for contestant in BATTERY:
            torch.manual_seed(0)
            result = call(contestant, network, batch)
            values = [value for f in fields(AttackResult) if isinstance(value := getattr(result, f.name), Tensor)]
            yield f"{contestant.name} {str(dtype).removeprefix('torch.')} {digest(values)}"


def record_lines(title: str, records: Iterable[Record]) -> Iterator[str]:
    """Every field of every record but its time."""
    for record in sorted(records, key=lambda each: (each.attack, str(each.eps), each.sample_id)):
        values = [getattr(record, f.name) for f in fields(Record) if f.name not in TIMES]
        yield f"{title} {record.attack} {record.eps} {record.sample_id} {digest(values)}"


def evaluation_lines() -> Iterator[str]:
    """Records of evaluations and of a transfer."""
    scenes = ToyScenes(5)
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as output:
            network, options = toy_network(dtype), {"batch_size": 3, "progress": False, "keep_adversarials": True}
            evaluate(network, scenes, plan=toy_plan(), run_dir=folder, **options)  # type: ignore[arg-type]
            yield from record_lines(f"evaluation {name}", read_records(Path(folder)))
            judge = {"name": "other", "output": output, "progress": False}
            transfer = evaluate_stored(Path(folder), toy_network(dtype, 1), scenes, **judge)  # type: ignore[arg-type]
            yield from record_lines(f"transfer {name}", transfer.records)
        criterion = Targeted(apsr=CRITERION.apsr)
        attacks = {"alma": AlmaProx(num_steps=12, step_size=0.05, criterion=criterion)}
        report = evaluate(network, scenes, attacks=attacks, targets=SecondBest(), progress=False)
        yield from record_lines(f"targeted {name}", report.records)


def callback_lines() -> Iterator[str]:
    """What the callback logs after each of two epochs."""
    attacks: dict[str, Attack] = {"pgd": PGD(num_steps=3), "fmn": LagrangianFMN(num_passes=8)}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        callback = RobustnessEvaluation(
            attacks,
            network="parts.model",
            mask=1,
            image=0,
            ignore_index=-1,
            every_n_epochs=1,
            max_images=4,
            batch_size=2,
        )
        trainer = make_trainer(Path(folder), callback, max_epochs=2)
        trainer.fit(OtherProject(), loader(TinyPairs()), loader(TinyPairs(8)))
        for key, value in sorted(trainer.logged_metrics.items()):
            yield f"callback {key} {digest([torch.as_tensor(value)])}"


def main() -> None:
    """Prints the lines."""
    torch.set_num_threads(1)
    for lines in (attack_lines, evaluation_lines, callback_lines):
        for line in lines():
            print(line, flush=True)


if __name__ == "__main__":
    main()
