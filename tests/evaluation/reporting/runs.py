"""Runs whose names try to break out of the page."""

from evaluation.toy import NUM_CLASSES, ToyScenes, toy_network, toy_plan

from segrobust.evaluation import RunDirectory, evaluate
from segrobust.label_space import LabelSpace

EVIL = "</script><script>alert(1)</script>"
QUOTES = """a "quoted" <img src=x onerror='alert(2)'>, name|`"""


class EvilScenes(ToyScenes):
    label_space = LabelSpace(
        names=(EVIL, "road <b>&</b> sky", "car", "pole"),
        palette=((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167)),
    )

    def __init__(self, num):
        super().__init__(num)
        self.names = tuple(f"{QUOTES}{index}" for index in range(num))


assert EvilScenes.label_space.num_classes == NUM_CLASSES


def make_run(path, dataset=None, *, network=None, plan=None, **arguments):
    evaluate(
        toy_network() if network is None else network,
        EvilScenes(5) if dataset is None else dataset,
        plan=plan or toy_plan(),
        run_dir=path,
        progress=False,
        **{"panels": 2, **arguments},
    )
    return RunDirectory(path)
