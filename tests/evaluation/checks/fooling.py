"""Networks that seem robust and are not, each built to fool one check; around any honest network."""

import torch
from torch import Tensor, nn
from torch.autograd import grad


class Around(nn.Module):
    """An honest network whose input or output is tampered with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def before(self, images: Tensor) -> Tensor:
        return images

    def after(self, logits: Tensor) -> Tensor:
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.network(self.before(images)))


class Noisy(Around):
    """Adds noise to its input, whatever its mode."""

    def before(self, images):
        return images + 0.02 * torch.randn_like(images)


class Softmax(Around):
    def after(self, logits):
        return logits.softmax(1)


class Sigmoid(Around):
    def after(self, logits):
        return logits.sigmoid()


class Queries(Around):
    """A confident network that classifies masks: one query per class, which knows its class, and where it is."""

    def after(self, logits):
        border = logits.topk(2, dim=1).values.mean(1, keepdim=True)
        known = torch.cat((100 * torch.eye(logits.shape[1]), torch.zeros(logits.shape[1], 1)), dim=1)
        return {"pred_logits": known.to(logits).expand(len(logits), -1, -1), "pred_masks": 30 * (logits - border)}


class QueryScores(Queries):
    """What such a network publishes: products of probabilities, summed over queries; the sum over classes is not 1."""

    def after(self, logits):
        found = super().after(logits)
        classes = found["pred_logits"].softmax(-1)[..., :-1]
        return torch.einsum("bqk,bqhw->bkhw", classes, found["pred_masks"].sigmoid())


class ClampedLogarithm(Around):
    """The logarithm of probabilities, kept finite by a clamp: below it no class moves."""

    def after(self, logits):
        return (30 * logits).softmax(1).clamp_min(1e-6).log()


class LogSoftmax(Around):
    """Odd, but as good as logits."""

    def after(self, logits):
        return logits.log_softmax(1)


class Binarised(Around):
    """Sees the sign of its input, which has no slope."""

    def before(self, images):
        return (images - 0.5).sign()


class Overconfident(Around):
    """So large logits that the cross-entropy has no slope left; the margin has."""

    def after(self, logits):
        return 1e4 * logits


class Detached(Around):
    """Takes the input out of the graph."""

    def before(self, images):
        return images.detach()


class RootAtZero(Around):
    """The derivative of a root at 0 is infinite, times 0."""

    def after(self, logits):
        return logits + (0 * logits).sqrt()


class Purifying(Around):
    """Moves its input to what it is sure of before it predicts, by a function that its module knows under a name."""

    def before(self, images):
        with torch.enable_grad():
            moved = images.detach().requires_grad_()
            self.step(moved)
        return images + 0.01 * moved.grad.sign() if moved.grad is not None else images

    def step(self, moved):
        (moved.grad,) = grad(self.network(moved).amax(1).sum(), moved)


class PurifyingBackward(Purifying):
    def step(self, moved):
        self.network(moved).amax(1).sum().backward()


class PurifyingFunctional(Purifying):
    def step(self, moved):
        moved.grad = torch.func.grad(lambda x: self.network(x).amax(1).sum())(moved.detach())


class Rounded(Around):
    """Rounds its input to 8 bits, and lets the gradient straight through."""

    def before(self, images):
        return images + (self.quantise(255 * images) / 255 - images).detach()

    def quantise(self, values):
        return values.round()


class Floored(Rounded):
    """Its steps lie at the very values of 8-bit images."""

    def quantise(self, values):
        return (values + 1e-4).floor()


class HardRounded(Around):
    """Rounds without a gradient."""

    def before(self, images):
        return (255 * images).round() / 255


class Counting(Around):
    """Answers every third call otherwise: the noise of a clock, not of a die."""

    calls = 0

    def after(self, logits):
        self.calls += 1
        return logits.roll(1, 1) if self.calls % 3 == 0 else logits


class GuardedAgainstGradients(Around):
    """Answers otherwise while gradients are recorded."""

    def after(self, logits):
        return logits.roll(1, 1) if torch.is_grad_enabled() else logits


class BatchStatistics(Around):
    """Normalises by the statistics of the batch, in evaluation too."""

    def before(self, images):
        return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Misleading(Around):
    """Its gradient is finite and nowhere zero, and points the wrong way."""

    def before(self, images):
        return _Reversed.apply(images)


class Constant(Around):
    """Never predicts but class 0, however its logits move."""

    def after(self, logits):
        return torch.cat((logits[:, :1] + 1e3, logits[:, 1:]), 1)


class HalfDead(nn.Module):
    """Honest: most of its units are saturated, at 0 or at 6, and most pixels react little."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.last = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 4, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.first.weight.mul_(8)
            self.first.bias.mul_(16)

    def forward(self, images):
        return self.last(nn.functional.relu6(self.first(images)))
