"""What a network must return."""

from torch import Tensor


def require_logits(output: object, images: Tensor) -> Tensor:
    """Gives the output of a network if it is logits at the resolution of the images.

    Args:
        output: what the network returned.
        images: `(B, C, H, W)`, what it was given.

    Returns:
        The output: `(B, K, H, W)`, floating point.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: a tensor of another shape.
    """
    fix = "wrap it in segrobust.networks.FullResolution"
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"the network must return a floating-point tensor of logits (B, K, H, W), got {got}; {fix}")
    batch, _, height, width = images.shape
    if output.ndim != 4 or (len(output), *output.shape[2:]) != (batch, height, width):
        raise ValueError(
            f"the network must return logits of the shape ({batch}, K, {height}, {width}) for images of the shape "
            f"{tuple(images.shape)}, got {tuple(output.shape)}; {fix}"
        )
    return output
