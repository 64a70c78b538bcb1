"""Evaluation in one call."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from segrobust.attacks import Attack
from segrobust.attacks.targets import Targets
from segrobust.evaluation.class_as_void import ClassAsVoid
from segrobust.evaluation.dataset import SampleSource, check_names, label_space_of
from segrobust.evaluation.engine.work import choose_samples
from segrobust.evaluation.jobs.distributed import Distributed
from segrobust.evaluation.jobs.evaluation_steps import CheckLevel, Evaluation
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.plan import Plan, plan_attacks
from segrobust.evaluation.presets import PresetName
from segrobust.evaluation.presets import preset as preset_plan
from segrobust.evaluation.reporting.report import Report
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.functional.devices import require_device
from segrobust.inputs import ChosenEntries, Entry, require_dataset, require_finite_weights, require_network
from segrobust.networks import find_conflicts


def evaluate(
    network: nn.Module,
    dataset: SampleSource,
    *,
    preset: PresetName | None = None,
    plan: Plan | None = None,
    attacks: Mapping[str, Attack] | None = None,
    eps: Sequence[float] | None = None,
    max_images: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    ignore_index: int | None = None,
    seed: int = 0,
    distributed: Distributed = Distributed(),  # noqa: B008  frozen
    asr_only: bool = False,
    checks: CheckLevel = "basic",
    panels: int = 4,
    progress: bool = True,
    keep_adversarials: bool = False,
    skip_unreadable: bool = False,
    dry_run: bool = False,
    targets: Targets | None = None,
    image: Entry | None = None,
    mask: Entry | None = None,
    accept_mismatch: bool = False,
    redo_changed: bool = False,
) -> Report:
    """Attacks a network on a data set and reports its robustness.

    A run directory identifies its data and its network: each record has a digest of the image and mask that were
    attacked, and a network of the same weights with other settings or outputs is refused.

    With a run directory, each result is written as soon as it exists. The same call resumes a run that was killed, with
    any number of processes; with one more attack, it adds that attack. The directory holds the manifest, records,
    summaries, curves, panels of a few images, and `report.html` if the extra `report` is installed. If an attack raises
    an error for one image, the error is recorded there and the evaluation continues. Ctrl-C and SIGTERM stop it between
    two batches.

    Several processes share a run through a store of `torch.distributed`, or through the directory alone: they then
    never wait for each other, and the last one to finish writes the summary. `summarize_run` recomputes it from the
    files.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; see `segrobust.networks` for wrappers.
        dataset: items with `image` `(C, H, W)` in [0, 1] and `mask` `(H, W)`, or tuples of the two; other forms as
            listed in `segrobust.inputs`.
        preset: "validation", "quick", "standard" (where neither `plan` nor `attacks` is given) or "thorough", or one
            of their versions, such as "standard-v1"; see `preset`.
        plan: attacks with radii, instead of a preset.
        attacks: attacks by name, instead of a preset.
        eps: radii for `attacks`; None for 1, 2, 4 and 8/255.
        max_images: size of a random subset of the images, which depends on `seed` alone; larger subsets contain smaller
            ones. None for all images.
        run_dir: directory of all files; None to write no files and draw no panels.
        batch_size: images that are attacked together.
        device: the network is moved there; None for the device that it is on.
        ignore_index: label of void pixels; None for that of the data set's label space, else 255. It may be a class of
            the network, whose pixels then do not count.
        seed: of the subset and of random starts.
        distributed: this process among those that share the run; see `Distributed.from_environment`.
        asr_only: compute success rates only: fixed-budget attacks skip images that are already broken.
        checks: "basic" looks for false robustness in the network, by a few passes on two images, and in the records;
            "thorough" also runs the attacks with twice the steps and a black-box attack, on two images; "off" checks
            nothing.
        panels: number of images to draw, the same for every attack; the worst and the median image are added.
        progress: whether to print settings and progress on stderr.
        keep_adversarials: whether to store the adversarial images of all samples, not only those of the panels.
        skip_unreadable: whether to skip images that cannot be read, and list them; else they raise.
        dry_run: only measure one pass and estimate the time; nothing is written.
        targets: target classes of the pixels, for `attacks` with a targeted or a localised criterion.
        image: where the image is in a sample: a key, a position in a tuple, or a function of the sample; None for the
            usual names and the first position.
        mask: likewise for the mask, at the second position.
        accept_mismatch: evaluate even if the classes recorded with the network differ from those of the data.
        redo_changed: measure samples again whose image or mask differs from the one that the run directory has records
            of; the old records no longer count. Otherwise such samples are refused.

    Raises:
        ValueError: arguments that contradict each other, a device that this machine lacks, a run directory that cannot
            be written or holds results of something else, or data and a network that do not fit; both sides are shown.
        TypeError: samples or a network output of the wrong type.
        FloatingPointError: the network returned NaN.
    """
    distributed = distributed.for_one_call()
    if device is not None:
        require_device(str(device))
    chosen = _choose_plan(preset, plan, attacks, eps, targets)
    require_network(network)
    require_finite_weights(network)
    require_dataset(dataset)
    if image is not None or mask is not None:
        dataset = ChosenEntries(dataset, image, mask)
    space = label_space_of(dataset)
    if space is not None and ignore_index is not None and ignore_index != space.ignore_index:
        dataset = ClassAsVoid(dataset, ignore_index) if 0 <= ignore_index < space.num_classes else dataset
    if not accept_mismatch:
        _check_classes(network, dataset)
    session = Session(
        network=network if device is None else network.to(device),
        dataset=dataset,
        plan=replace(chosen, asr_only=True) if asr_only else chosen,
        samples=choose_samples(len(dataset), max_images, seed),
        ignore_index=_choose_ignore_index(dataset, ignore_index),
        batch_size=batch_size,
        seed=seed,
        distributed=distributed,
        progress=progress and distributed.is_main,
    )
    check_names(dataset, session.samples)
    evaluation = Evaluation(session=session, checks=checks, redo_changed=redo_changed)
    if dry_run:
        return evaluation.estimate()
    if run_dir is not None:
        drawn = choose_samples(len(dataset), panels, seed) if panels else ()
        return evaluation.run_in(RunDirectory(Path(run_dir)), drawn, keep_adversarials, skip_unreadable)
    ends_hanging = distributed.stalled_after is not None
    if distributed.world_size > 1 or keep_adversarials or skip_unreadable or redo_changed or ends_hanging:
        raise ValueError(
            "several processes, stored adversarial images, a list of unreadable images, changed samples that are "
            "measured again, and stalled_after, which ends the process, need files: give a run_dir"
        )
    return evaluation.run_in_memory()


def _choose_plan(
    preset: PresetName | None,
    plan: Plan | None,
    attacks: Mapping[str, Attack] | None,
    eps: Sequence[float] | None,
    targets: Targets | None,
) -> Plan:
    given = [name for name, value in (("preset", preset), ("plan", plan), ("attacks", attacks)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"give one of preset, plan and attacks, got {' and '.join(given)}")
    if eps is not None and attacks is None:
        raise ValueError(
            f"eps={tuple(eps)} has an effect on `attacks` only; presets measure at "
            "1, 2, 4 and 8/255, and plans at their own radii: choose the attacks, such as by "
            "attacks=segrobust.evaluation.preset_attacks('quick')"
        )
    if targets is not None and attacks is None:
        raise ValueError(f"targets={targets!r} have an effect on `attacks` only; jobs of a plan have their own")
    if attacks is not None:
        own = {radius for attack in attacks.values() for radius in attack.own_radii}
        if eps is not None and all(attack.own_radii for attack in attacks.values()) and not own.issuperset(eps):
            warnings.warn(
                f"eps={tuple(eps)} has no effect, because all attacks have radii of their own ({sorted(own)}): leave "
                "these out of the attacks",
                stacklevel=3,
            )
        return plan_attacks(attacks, eps, targets)
    return preset_plan(preset or "standard") if plan is None else plan


def _check_classes(network: nn.Module, dataset: SampleSource) -> None:
    space = label_space_of(dataset)
    conflicts = [] if space is None else find_conflicts(network, space)
    if conflicts:
        raise ValueError("\n".join((*conflicts, "if this is intended, set accept_mismatch=True")))


def _choose_ignore_index(dataset: SampleSource, ignore_index: int | None) -> int:
    space = label_space_of(dataset)
    if space is None:
        return 255 if ignore_index is None else ignore_index
    if ignore_index not in (None, space.ignore_index):
        raise ValueError(
            f"ignore_index={ignore_index} contradicts the data set's label space, where void is {space.ignore_index} "
            f"and classes are 0..{space.num_classes - 1}; leave it out, or give the class that is void"
        )
    return space.ignore_index
