"""What may come in: data sets, samples, images, masks and networks; each is taken, or refused with the line to write.

The entry points ask here before they spend time: `evaluate`, calls of attacks, the callback and the tasks.

| what comes in | what happens |
|---|---|
| **data sets** (`data_sets`) | |
| anything with `len()` and positions: a list, `Dataset`, `Subset`, `TensorDataset`, a data set of the hub | taken |
| `DataLoader`, data module, iterable, generator, one batch or a list of them, a path, splits, a table | refused |
| **samples** (`sample_entries`) | |
| a mapping with `image` and `mask`, or with one usual name of each | taken |
| `(image, mask)`; a longer tuple whose further entries cannot be masks | taken |
| anything else: name the entries by `image=` and `mask=` | refused |
| **images** (`image_input`) | |
| floating point in [0, 1]; uint8, which is divided by 255; `(C, H, W)`, `(H, W, C)` or `(H, W)` | taken |
| a tensor, a NumPy array, or a picture of PIL in grey or RGB | taken |
| other integers, palettes, alpha, other modes of colour | refused |
| in calls of attacks: other than floating-point tensors `(B, C, H, W)` in [0, 1] | refused |
| **masks** (`mask_input`) | |
| any integers, bool, floating point without fractions; one-hot, which becomes indices; a dimension of size 1 | taken |
| fractions, colours, several classes of one pixel, a label of the whole image | refused |
| of images and masks: arrays that hide values, sparse tensors, tensors without values | refused |
| **networks** (`network_input`, `refusals`) | |
| a module in any mode, also compiled, scripted, traced, in data parallelism; one that writes to its input | taken |
| weights in 16 bits, sharded, without values; a function, a class, a state dict, an exported program | refused |
| in evaluations, and from files: weights that are NaN or infinite (`finite_weights`) | refused |
| in tasks: weights without values, which a strategy or a file may bring before training | taken |
| without a gradient, such as quantised layers: for attacks that follow one | refused |
| of several inputs, or of another input than a tensor; other faults of a network keep their own error | refused |
| without `forward`, such as a `ModuleList`; one that takes the channels last | refused |
| another device, precision, number of channels or size than the images | refused where the network refuses it |
"""

from segrobust.inputs.data_sets import ChosenEntries, require_dataset
from segrobust.inputs.finite_weights import describe_non_finite, require_finite_weights
from segrobust.inputs.image_input import as_image
from segrobust.inputs.mask_input import as_class_indices
from segrobust.inputs.network_input import NO_GRADIENT, require_network
from segrobust.inputs.refusals import explain_backward, explain_refusals
from segrobust.inputs.sample_entries import Entry, entry_of, require_single, split_sample

__all__ = [
    "ChosenEntries",
    "Entry",
    "NO_GRADIENT",
    "as_class_indices",
    "as_image",
    "describe_non_finite",
    "entry_of",
    "explain_backward",
    "explain_refusals",
    "require_dataset",
    "require_finite_weights",
    "require_network",
    "require_single",
    "split_sample",
]
