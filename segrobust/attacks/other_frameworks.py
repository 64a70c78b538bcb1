"""Attacks with the interfaces of AutoAttack and foolbox, for scripts written for these packages."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import make_problem
from segrobust.attacks.ensemble import Ensemble
from segrobust.attacks.restarts import Restarts
from segrobust.attacks.sea import SEA
from segrobust.functional.modes import attackable
from segrobust.functional.norms import NormName
from segrobust.functional.projections import project

NORMS: dict[str, NormName] = {"Linf": "linf", "L2": "l2", "L1": "l1"}


class StandardEvaluation:
    """An attack with the interface of AutoAttack: `adversary.run_standard_evaluation(images, labels, bs=batch_size)`.

    Accuracies are shares of the valid pixels. Unlike there, an image on which the attack fails is returned with its
    best perturbation, not clean, because mIoU and pixel accuracy count its pixels too.

    Args:
        model: maps images in [0, 1] to logits `(B, K, H, W)`.
        norm: `"Linf"`, `"L2"` or `"L1"`, that of the attack.
        eps: radius, image units.
        seed: of random starts; None for that of the attack.
        verbose: print clean accuracy and accuracy under attack.
        version: `"standard"`, which is `attack`.
        attack: fixed-budget; None for SEA, the standard of segmentation.
        ignore_index: label of void pixels.
        device: of the attack; None for that of the model's weights.

    Raises:
        ValueError: a norm that is not the attack's, another version, or a minimal-norm attack, for which `eps` is no
            bound.
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        *,
        seed: int | None = None,
        verbose: bool = True,
        version: str = "standard",
        attack: Attack | None = None,
        ignore_index: int = 255,
        device: torch.device | str | None = None,
    ) -> None:
        if version != "standard":
            raise ValueError(f"version must be 'standard', got {version!r}: give other attacks as attack=WorstOf(...)")
        self.model, self.eps, self.ignore_index, self.device = model, eps, ignore_index, device
        self.verbose = verbose
        self.attack = SEA() if attack is None else attack
        if seed is not None and self.attack.has_field("seed"):
            seeded: Any = self.attack  # of a class that has the field
            self.attack = replace(seeded, seed=seed)
        if NORMS.get(norm) != self.attack.norm:
            raise ValueError(
                f"norm must be that of the attack, {self.attack.norm}, in {', '.join(NORMS)}; got {norm!r}"
            )
        if self.attack.minimal_norm:
            raise ValueError(f"eps is a bound here, and {self.attack!r} has none: use Clipped(attack=...)")

    def run_standard_evaluation(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 8, *, return_labels: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attacks all images; random numbers depend on the position of an image, so that `bs` changes nothing.

        Args:
            x_orig: `(N, C, H, W)` in [0, 1].
            y_orig: `(N, H, W)` int64.
            bs: images at a time.
            return_labels: whether predictions `(N, H, W)` are returned too.

        Returns:
            The adversarial images `(N, C, H, W)`, on the device of the images.
        """
        images, predictions = self._attacked(self.attack, x_orig, y_orig, bs)
        if self.verbose:
            clean, robust = self.clean_accuracy(x_orig, y_orig, bs), self._accuracy(predictions, y_orig)
            sys.stdout.write(f"clean accuracy {clean:.2%}, accuracy under attack {robust:.2%}\n")
        return (images, predictions) if return_labels else images

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 8, *, return_labels: bool = False
    ) -> dict[str, Tensor] | dict[str, tuple[Tensor, Tensor]]:
        """The same by each member of an ensemble alone.

        Args:
            x_orig: `(N, C, H, W)` in [0, 1].
            y_orig: `(N, H, W)` int64.
            bs: images at a time.
            return_labels: whether predictions `(N, H, W)` are returned too.

        Returns:
            By the name of the member, what `run_standard_evaluation` returns; one entry for an attack without members.
        """
        alone = {type(self.attack).__name__.lower(): self.attack}
        members = self.attack.members if isinstance(self.attack, Ensemble) else alone
        found = {name: self._attacked(member, x_orig, y_orig, bs) for name, member in members.items()}
        return found if return_labels else {name: images for name, (images, _) in found.items()}

    def clean_accuracy(self, x_orig: Tensor, y_orig: Tensor, bs: int = 8) -> float:
        """Share of the valid pixels that are classified rightly without attack; the arguments are those above."""
        with attackable(self.model), torch.no_grad():
            parts = torch.split(torch.arange(len(x_orig)), bs)
            found = [self.model(x_orig[ids.to(x_orig.device)].to(self._device(x_orig))).argmax(1) for ids in parts]
        return self._accuracy(torch.cat(found).to(y_orig.device), y_orig)

    def _attacked(self, attack: Attack, x_orig: Tensor, y_orig: Tensor, bs: int) -> tuple[Tensor, Tensor]:
        """Adversarial images and predictions, on the devices of images and labels."""
        device, found = self._device(x_orig), []
        for ids in torch.split(torch.arange(len(x_orig)), bs):
            images, labels = (part[ids.to(part.device)].to(device) for part in (x_orig, y_orig))
            result = attack(self.model, images, labels, ignore_index=self.ignore_index, eps=self.eps, sample_ids=ids)
            found.append((result.adv.to(x_orig.device), result.prediction.to(y_orig.device)))
        images, predictions = (torch.cat(parts) for parts in zip(*found, strict=True))
        return images, predictions

    def _device(self, images: Tensor) -> torch.device | str:
        return next(self.model.parameters(), images).device if self.device is None else self.device

    def _accuracy(self, predictions: Tensor, labels: Tensor) -> float:
        valid = labels != self.ignore_index
        return (predictions == labels)[valid].double().mean().item()


class FoolboxAttack:
    """An attack with foolbox's interface: `raw, clipped, success = attack(fmodel, images, labels, epsilons=epsilons)`.

    Inputs lie in the bounds of the model, and `epsilons` are in their units. A minimal-norm attack runs once: its raw
    images have the smallest norm, and its clipped images are judged at each epsilon (None for no clipping). A
    fixed-budget attack runs at each epsilon. Success is decided by the attack's own criterion. As foolbox requires, the
    network must be in evaluation mode.

    Args:
        attack: any attack but those of `Localized` criteria.
        ignore_index: label of void pixels.
    """

    def __init__(self, attack: Attack, *, ignore_index: int = 255) -> None:
        self.attack, self.ignore_index = attack, ignore_index

    @property
    def distance(self) -> Any:
        """Foolbox's measure of the norm."""
        from foolbox import distances

        return getattr(distances, self.attack.norm)

    def repeat(self, times: int) -> "FoolboxAttack":
        """The best of several random starts."""
        if times == 1:
            return self
        return FoolboxAttack(Restarts(attack=self.attack, num_runs=times), ignore_index=self.ignore_index)

    def __call__(
        self, model: Any, inputs: Any, criterion: Any, *, epsilons: Iterable[float | None] | float | None
    ) -> tuple[Any, Any, Any]:
        """Attacks a batch.

        Args:
            model: foolbox's model around a network for segmentation.
            inputs: `(N, C, H, W)` within the model's bounds, a tensor of torch or of eagerpy.
            criterion: labels `(N, H, W)`, foolbox's `Misclassification` of them, or `TargetedMisclassification`.
            epsilons: K radii, or one.

        Returns:
            Raw and clipped images, lists of K tensors `(N, C, H, W)`, and success `(K, N)`; for a single epsilon
            without the K. Tensors are of the same package as `inputs`.

        Raises:
            ValueError: a criterion of another kind than the attack's, or None as the radius of a fixed-budget attack.
        """
        native = inputs.raw if hasattr(inputs, "raw") else inputs
        restore = type(inputs) if hasattr(inputs, "raw") else lambda tensor: tensor
        lower, upper = model.bounds
        network = _Unbounded(model)
        images = (native.detach() - lower) / (upper - lower)
        labels, targets = self._labels(criterion)
        radii = list(epsilons) if isinstance(epsilons, Iterable) else [epsilons]
        if not self.attack.minimal_norm and any(eps is None for eps in radii):
            raise ValueError(f"{type(self.attack).__name__} needs a radius, got epsilons={epsilons}")
        found = self._find(
            network, images, labels, targets, [None if e is None else e / (upper - lower) for e in radii]
        )
        raw, clipped = ([restore(lower + adv * (upper - lower)) for adv in column] for column in (found[0], found[1]))
        if isinstance(epsilons, Iterable):
            return raw, clipped, restore(torch.stack(found[2]))
        return raw[0], clipped[0], restore(found[2][0])

    def _labels(self, criterion: Any) -> tuple[Tensor, Tensor | None]:
        """Labels and targets of the attack's call from labels or a criterion of foolbox's."""
        targeted = hasattr(criterion, "target_classes")
        if targeted != (self.attack.criterion.sign < 0):
            raise ValueError(f"the attack's criterion is {self.attack.criterion!r}, foolbox's is {criterion!r}")
        given = criterion.target_classes if targeted else getattr(criterion, "labels", criterion)
        labels: Tensor = getattr(given, "raw", given)
        return labels, labels if targeted else None

    def _find(
        self, network: nn.Module, images: Tensor, labels: Tensor, targets: Tensor | None, radii: list[float | None]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Raw and clipped images and success at each radius, in image units."""
        if not self.attack.minimal_norm:
            results = [
                self.attack(network, images, labels, targets=targets, eps=eps, ignore_index=self.ignore_index)
                for eps in radii
            ]
            advs = [result.adv for result in results]
            return advs, advs, [result.success for result in results]
        result = self.attack(network, images, labels, targets=targets, ignore_index=self.ignore_index)
        norm, clipped, success = self.attack.norm, [], []
        with attackable(network):
            problem = make_problem(images, labels, norm=norm, ignore_index=self.ignore_index, targets=targets)
            oracle = NetworkOracle(network, problem.images)
            for eps in radii:
                delta = result.adv - problem.images
                if eps is not None:
                    delta = project(delta, delta.new_full((len(delta),), eps), norm, problem.lower, problem.upper)
                broken = self.attack.criterion.broken(oracle.logits(delta, differentiable=False), problem)
                clipped.append(problem.images + delta)
                success.append(self.attack.criterion.outcome(broken, problem)[1])
        return [result.adv] * len(radii), clipped, success


class _Unbounded(nn.Module):
    """A model of foolbox's as a network on images in [0, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images `(B, C, H, W)`."""
        lower, upper = self.model.bounds
        logits: Tensor = self.model(lower + images * (upper - lower))
        return logits
