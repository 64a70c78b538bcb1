"""A network in DistributedDataParallel of two processes, whose passes wait for each other, is refused everywhere."""

import multiprocessing
import traceback

import pytest
import torch
from callbacks.tiny import OtherProject, TinyScenes, loader, make_trainer, tiny_network
from evaluation.toy import CRITERION, ToyScenes, toy_network, toy_plan
from torch import distributed, nn

from segrobust.attacks import EOT, FGSM, PGD, Square
from segrobust.attacks.other_frameworks import StandardEvaluation
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import (
    StridedWork,
    check_attacks,
    check_network,
    evaluate,
    evaluate_stored,
    run,
)
from segrobust.evaluation.checks import check_wiring
from segrobust.networks import Normalized, SlidingWindow, check_differentiable
from segrobust.tasks import AdversarialTask, SegmentationTask

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(600)]

SCENES = ToyScenes(2)
IMAGES, LABELS = torch.rand(1, 3, 8, 9), torch.zeros(1, 8, 9, dtype=torch.long)
PLAN = {"attacks": {"pgd": PGD(num_steps=1, criterion=CRITERION)}, "eps": (0.1,), "progress": False}


def fit(network, folder):
    """A training by another project's module, whose network was wrapped by hand."""
    module = OtherProject()
    module.parts["model"] = network
    callback = RobustnessEvaluation(
        {"fgsm": FGSM()}, network=lambda module: module.parts["model"], image=0, mask=1, panels=0
    )
    make_trainer(folder, callback).fit(module, loader(TinyScenes(2)), loader(TinyScenes(2)))


def standard_evaluation(network, folder):
    StandardEvaluation(network, eps=0.1, attack=FGSM()).run_standard_evaluation(IMAGES, LABELS, bs=1)


ENTRIES = {
    "evaluate": lambda network, folder: evaluate(network, SCENES, **PLAN),
    "evaluate in a directory": lambda network, folder: evaluate(network, SCENES, **PLAN, run_dir=folder / "new"),
    "evaluate a window": lambda network, folder: evaluate(
        SlidingWindow(network, window=(6, 6), stride=(6, 6)), SCENES, **PLAN
    ),
    "evaluate a normalised one": lambda network, folder: evaluate(Normalized(network), SCENES, **PLAN),
    "evaluate_stored": lambda network, folder: evaluate_stored(
        folder / "run", network, SCENES, name="a", output=folder / "judged", progress=False
    ),
    "run": lambda network, folder: [*run(network, SCENES, toy_plan(), work=StridedWork((0, 1)))],
    "check_network": lambda network, folder: check_network(network, SCENES, (0,), criterion=CRITERION),
    "check_wiring": lambda network, folder: check_wiring(network, SCENES, (0,)),
    "check_attacks": lambda network, folder: check_attacks(
        network, SCENES, toy_plan(), (0,), evaluate(toy_network(), SCENES, plan=toy_plan(), progress=False).records
    ),
    "check_differentiable": lambda network, folder: check_differentiable(network),
    "an attack": lambda network, folder: PGD(num_steps=1)(network, IMAGES, LABELS, eps=0.1),
    "an attack without gradients": lambda network, folder: Square(num_queries=2)(network, IMAGES, LABELS, eps=0.1),
    "a wrapped attack": lambda network, folder: EOT(attack=FGSM(), num_draws=2)(network, IMAGES, LABELS, eps=0.1),
    "a surrogate": lambda network, folder: FGSM()(
        toy_network(torch.float32), IMAGES, LABELS, eps=0.1, surrogate=network
    ),
    "perturb": lambda network, folder: FGSM().perturb(network, IMAGES, LABELS, eps=0.1),
    "images alone": lambda network, folder: FGSM().adversarial_images(network, IMAGES, LABELS, eps=0.1),
    "another framework": standard_evaluation,
    "a task": lambda network, folder: SegmentationTask(network),
    "an adversarial task": lambda network, folder: AdversarialTask(network, attack=FGSM(eps=0.01)),
    "the callback": fit,
}


def try_all(folder, rank):
    """The first entry that does not refuse the network is the error of this process."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    own = folder / str(rank)
    own.mkdir()
    settings = {"plan": toy_plan(), "panels": 0, "progress": False, "checks": "off", "keep_adversarials": True}
    evaluate(toy_network(torch.float32), SCENES, run_dir=own / "run", **settings)
    said = {}
    for name, entry in ENTRIES.items():
        inside = tiny_network() if name == "the callback" else toy_network(torch.float32)
        network = nn.parallel.DistributedDataParallel(inside)
        try:
            entry(network, own)
            said[name] = "it was taken"
        except ValueError as error:
            said[name] = str(error)
        except Exception:  # the message is what the test shows
            said[name] = traceback.format_exc()
    distributed.destroy_process_group()
    (own / "said").write_text("\0".join(f"{name}\0{text}" for name, text in said.items()))


def test_every_entry_point_refuses_it(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segrobust.evaluation", "evaluation.toy"])
    workers = [context.Process(target=try_all, args=(tmp_path, rank), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(500)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0]
    for rank in range(2):
        parts = (tmp_path / str(rank) / "said").read_text().split("\0")
        said = dict(zip(parts[::2], parts[1::2], strict=True))
        assert said.keys() == ENTRIES.keys()
        refusal = "is wrapped in DistributedDataParallel: its processes wait for each other"
        taken = {name: text for name, text in said.items() if refusal not in text or text[-14:] != "network.module"}
        assert not taken
