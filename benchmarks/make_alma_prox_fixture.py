"""Records what adv-lib 0.2.8 does on a small network, for `tests/attacks/test_alma_prox_reference.py`.

Run once; the file names the version. It holds the network's weights, 8-bit images, labels with void, the norm of each
image at the first 20 iterates, and the final norms.

    python -m benchmarks.make_alma_prox_fixture
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.advlib import VERSION, CalledBefore, published_alma_prox

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "alma_prox_advlib" / "small_network.safetensors"
NUM_IMAGES, NUM_CLASSES, SIZE = 8, 6, (17, 20)
NUM_VOID_ROWS = 2  # 300 pixels count, of which exactly 3 may stay unbroken: nothing to round
STEPS, TRACED = 500, 20


def small_network() -> nn.Conv2d:
    """A 3x3 convolution that looks at its centre most, logits near zero at mid-grey: the released code breaks it."""
    torch.manual_seed(1)
    network = nn.Conv2d(3, NUM_CLASSES, 3, padding=1)
    with torch.no_grad():
        network.weight.normal_(std=0.05)
        network.weight[:, :, 1, 1] = torch.randn(NUM_CLASSES, 3)
        network.bias = nn.Parameter(-0.5 * network.weight.sum((1, 2, 3)))
    return network.eval().requires_grad_(False)


def grey_images() -> Tensor:
    """8-bit noise close to mid-grey, `(N, 3, H, W)` uint8."""
    return (255 * (0.5 + 0.03 * torch.randn(NUM_IMAGES, 3, *SIZE))).round().byte()


def trace(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Norms `(N, TRACED)` of the first iterates, and final norms `(N,)`, inf where the attack failed."""
    iterates: list[Tensor] = []
    recorded = CalledBefore(network, lambda adv: iterates.append((adv.detach() - images).abs().amax((1, 2, 3))))
    valid = labels != 255
    adv = published_alma_prox()(recorded, images, labels, masks=valid, num_steps=STEPS)
    with torch.no_grad():
        broken = ((network(adv).argmax(1) != labels) & valid).sum((1, 2))
    success = broken * 100 >= valid.sum((1, 2)) * 99
    norms = (adv - images).abs().amax((1, 2, 3)).masked_fill(~success, torch.inf)
    return torch.stack(iterates[:TRACED], 1), norms


def main(path: Path = FIXTURE) -> None:
    """Writes the fixture.

    Args:
        path: the file.
    """
    torch.set_num_threads(1)
    network, pixels = small_network(), grey_images()
    images = pixels.float() / 255
    labels = network(images).argmax(1)
    labels[:, :NUM_VOID_ROWS] = 255
    norms, final = trace(network, images, labels)
    tensors = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    tensors |= {"images": pixels, "labels": labels.byte(), "norms": norms, "final_norms": final}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"adv-lib": VERSION, "torch": torch.__version__, "num_steps": str(STEPS)})
    print(f"{path}: final norms {(255 * final).tolist()} /255, iterates of the first image {(255 * norms[0]).tolist()}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
