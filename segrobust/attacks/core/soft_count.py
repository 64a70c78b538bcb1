r"""A softened count of unbroken pixels, whose temperature falls while an attack runs.

Accuracy counts pixels: it is `sum_i 1[z_r > max_{c != r} z_c]_i`, a function without slope. Its softened form replaces
the indicator by the probability `p_r = softmax(z / T)_r`. As T goes to 0, the sum over the pixels tends to the count.

    d p_r / d z = p_r (e_r - p) / T

The slope is largest where the reference class and a competitor tie, and fades over a distance of a few T on both sides:
pixels that are safely broken cost nothing, and pixels that are out of reach are left alone. What is in reach at first
is not known. A warm T therefore lets almost all pixels pull, nearly as their margins do; as T falls, fewer and fewer
do, those near the boundary, until the loss is nearly the count itself. This is the continuation of graduated
non-convexity (Blake and Zisserman, 1987), whose other name is deterministic annealing.

T is a multiple of the mean absolute margin of the image, so that nothing depends on the scale of the logits.
"""

from dataclasses import dataclass

from torch import Tensor

from segrobust.attacks.core.losses import PixelLoss, Pixels
from segrobust.functional import pixel_losses
from segrobust.functional.margins import margin_scale


@dataclass(frozen=True, kw_only=True)
class SoftCount(PixelLoss):
    """`-p_r`, the softened count of unbroken pixels; targeted: `p_r`, that of pixels that have their class.

    `p = softmax(z / T)`, with T a multiple of the mean absolute margin at the present iterate, which falls
    geometrically over the attack. See the module's docstring.

    Args:
        first_temperature: T at the first step, in mean absolute margins.
        last_temperature: T where the attack ends.
    """

    first_temperature: float = 0.5
    last_temperature: float = 0.03

    def __post_init__(self) -> None:
        for name in ("first_temperature", "last_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} must be positive and finite, in mean absolute margins, got {getattr(self, name)}; "
                    "0.5 lets almost all pixels pull, 0.03 those near their boundary"
                )

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        logits = pixels.logits.detach()
        scale = margin_scale(pixels.criterion.margins(logits, pixels.problem), pixels.valid, logits)
        fall = self.last_temperature / self.first_temperature
        temperature = scale * self.first_temperature * fall**pixels.progress
        return -pixels.sign * pixel_losses.softmax_probability(pixels.logits, pixels.reference, temperature)

    @property
    def tracked(self) -> PixelLoss:
        """The same at the last temperature throughout: values at different temperatures cannot be compared."""
        return SoftCount(first_temperature=self.last_temperature, last_temperature=self.last_temperature)
