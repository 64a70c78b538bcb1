"""What attacks that contain another one share."""

from dataclasses import dataclass, replace

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.criteria import Criterion
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class Wrapper(Attack):
    """An attack around another one, whose norm and criterion it has.

    Args:
        attack: the attack inside.
    """

    attack: Attack

    @property
    def norm(self) -> NormName:
        """The norm of the attack inside."""
        return self.attack.norm

    @property
    def criterion(self) -> Criterion:
        """The criterion of the attack inside."""
        return self.attack.criterion

    @property
    def default_eps(self) -> float | None:
        """The radius of the attack inside."""
        return self.attack.default_eps

    @property
    def step_budget(self) -> int | None:
        """That of the attack inside."""
        return self.attack.step_budget

    def with_step_budget(self, steps: int) -> Attack:
        """The same wrapper around an attack with other steps."""
        return replace(self, attack=self.attack.with_step_budget(steps))
