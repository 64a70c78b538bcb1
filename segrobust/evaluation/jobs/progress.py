"""How far an evaluation is: images, passes and the time left, as a line and as a file."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self

from segrobust.evaluation.engine.runtime_estimate import max_passes
from segrobust.evaluation.engine.watch import CallOrClean, Watch
from segrobust.evaluation.plan import AttackCall, Plan, Radius
from segrobust.evaluation.reporting.format import radius_text
from segrobust.evaluation.reporting.report import duration
from segrobust.evaluation.run.records import CLEAN, Record
from segrobust.evaluation.run.strict_json import write_json

PROGRESS_FILE: Final = "progress.json"
"""Name of the file in a run directory."""

_TICK: Final = 1.0
_FIRST_LINE: Final = 5.0
_BETWEEN_LINES: Final = 60.0
_SHOWN: Final = 4

State = Literal["running", "finished", "stopped", "failed", "stalled"]


@dataclass(frozen=True)
class Counts:
    """What one process has done since the job started.

    Attributes:
        images: samples of which nothing is missing any more.
        passes: forward and backward passes, summed over images.
        settled: passes of the plan that are made or, because an image finished early, no longer necessary.
        recorded: records by digest of the attack, by-products left out.
    """

    images: int = 0
    passes: int = 0
    settled: float = 0.0
    recorded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Measurement:
    """The present measurement of a batch."""

    sample_ids: tuple[int, ...]
    call: CallOrClean
    at_most: float

    @property
    def attack(self) -> str:
        return CLEAN if self.call == "clean" else self.call.job.name

    @property
    def eps(self) -> Radius | None:
        return None if self.call == "clean" else self.call.eps

    def __str__(self) -> str:
        radius = "" if not isinstance(self.eps, float) else f" at {self._radius(self.eps)}"
        images = ", ".join(map(str, self.sample_ids[:_SHOWN]))
        more = f" and {len(self.sample_ids) - _SHOWN} more" if len(self.sample_ids) > _SHOWN else ""
        return f"{self.attack}{radius} on image{'s' if len(self.sample_ids) > 1 else ''} {images}{more}"

    def _radius(self, eps: float) -> str:
        return radius_text(eps, self.call.job.attack.norm) if isinstance(self.call, AttackCall) else ""


class Progress(Watch):
    """The progress of a job, as this process sees it; the clock runs inside a `with` block.

    The time left is an upper bound: the passes that remain if no image finishes early, at the speed so far.

    Attributes:
        others: gives the counts of the other processes.
        signs: grows with all that happens, passes included.
        is_working: whether samples have been taken and not finished.

    Args:
        plan: the attacks.
        sample_ids: the samples whose progress is shown, of all processes.
        done: records of earlier commands.
        file: JSON file that is replaced at most once a second; None for none.
        processes: their number.
    """

    def __init__(
        self,
        plan: Plan,
        sample_ids: Sequence[int],
        done: Iterable[Record] = (),
        *,
        file: Path | None = None,
        processes: int = 1,
    ) -> None:
        self.others: Callable[[], Sequence[Counts]] = tuple
        self.signs = 0
        self.is_working = False
        self._sample_ids = tuple(sample_ids)
        self._file = file
        self._processes = processes
        self._planned: dict[tuple[str, Radius | None], float] = {
            (CLEAN, None): 1.0,
            **{(c.job.digest, c.eps): sum(max_passes(c)) for c in plan.attack_calls},
        }
        self._began, self._started = datetime.now(UTC), time.monotonic()
        self._last_tick = -math.inf
        self._passes = self._passes_before = 0
        self.begin(done)

    def begin(self, done: Iterable[Record]) -> None:
        """Counts from here on what these records lack; passes and time go on."""
        recorded: dict[int, set[tuple[str, Radius | None]]] = {sample_id: set() for sample_id in self._sample_ids}
        for record in done:
            if record.sample_id in recorded:
                recorded[record.sample_id].add((record.digest, record.eps))
        lacking = {
            sample_id: {key: passes for key, passes in self._planned.items() if key not in found}
            for sample_id, found in recorded.items()
        }
        self._lacking = {sample_id: keys for sample_id, keys in lacking.items() if keys}
        self._at_most = sum(sum(keys.values()) for keys in self._lacking.values())
        self._images_before = len(lacking) - len(self._lacking)
        self._images = 0
        self._settled = 0.0
        self._recorded = dict.fromkeys((digest for digest, _ in self._planned), 0)  # all keys: a thread copies it
        self._now: _Measurement | None = None
        self._inside = self._inside_passes = 0

    def join(self, others: Callable[[], Sequence[Counts]]) -> None:
        """Counts other processes too. What they have done by now says nothing about the speed from here on."""
        self.others = others
        self._passes_before = sum(each.passes for each in others())

    def take_over(self, done: Iterable[Record]) -> None:
        """The others are through: these records have what they made, and only their passes still count."""
        passes = sum(each.passes for each in self.others())
        self.others = lambda: (Counts(passes=passes),)
        self.begin(done)

    def __enter__(self) -> Self:
        self._began, self._started = datetime.now(UTC), time.monotonic()
        self.write("running")
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.is_working, self._now = False, None
        if kind is not None:
            self.write("failed")
        else:
            self.write("finished" if self.images_done == self.num_images else "stopped")

    def taken(self, sample_id: int) -> None:
        """See `Watch`."""
        self.is_working = True
        self.changed()

    def measuring(self, sample_ids: Sequence[int], call: CallOrClean) -> None:
        """See `Watch`."""
        key = (CLEAN, None) if call == "clean" else (call.job.digest, call.eps)
        self._now = _Measurement(tuple(sample_ids), call, self._planned[key])
        self._inside = self._inside_passes = 0
        self.changed()

    def passed(self, num_images: int) -> None:
        """See `Watch`."""
        self._inside += 1
        self._inside_passes += num_images
        self._passes += num_images
        self.changed()

    def recorded(self, record: Record) -> None:
        """See `Watch`."""
        passes = self._lacking.get(record.sample_id, {}).pop((record.digest, record.eps), None)
        if passes is not None:
            self._inside_passes = 0
            self._settled += passes
            self._recorded[record.digest] += 1
        self.changed()

    def finished(self, sample_ids: Sequence[int]) -> None:
        """See `Watch`."""
        self.is_working, self._now, self._inside_passes = False, None, 0
        for sample_id in sample_ids:
            rest = self._lacking.pop(sample_id, None)
            if rest is not None:
                self._settled += sum(rest.values())
                self._images += 1
        self.changed()

    def changed(self) -> None:
        """Something happened, here or in another process."""
        self.signs += 1
        if time.monotonic() - self._last_tick >= _TICK:
            self._last_tick = time.monotonic()
            self.show()

    def show(self) -> None:
        """Shows the progress; called at most once a second."""
        self.write("running")

    @property
    def counts(self) -> Counts:
        """What this process has done."""
        most = self._now.at_most * len(self._now.sample_ids) if self._now is not None else 0.0
        inside = min(self._inside_passes, most)  # nan stays nan
        return Counts(self._images, self._passes, self._settled + inside, dict(self._recorded))

    @property
    def num_images(self) -> int:
        """The samples whose progress is shown."""
        return len(self._sample_ids)

    @property
    def images_done(self) -> int:
        """Samples of which nothing is missing any more, over all processes and commands."""
        done = self._images_before + self._images + sum(each.images for each in self.others())
        return min(done, self.num_images)

    @property
    def where(self) -> str:
        """The present measurement, in words."""
        return "the next image" if self._now is None else str(self._now)

    def stalled(self) -> str:
        """Writes the file for the last time, and says what is missing."""
        self.write("stalled")
        return f"records of {self.num_images - self.images_done} images are missing, and the report"

    @property
    def elapsed(self) -> str:
        """Time since the start, as h:mm:ss."""
        return duration(time.monotonic() - self._started)

    @property
    def share(self) -> float:
        """The share of the work that is done: of the passes, or of the images where the passes are not known."""
        left = self._passes_left(self._every())
        if math.isfinite(left) and self._at_most:
            done = 1 - left / self._at_most
            return (self._images_before + done * (self.num_images - self._images_before)) / max(1, self.num_images)
        return self.images_done / max(1, self.num_images)

    def describe(self) -> str:
        """Images, speed, time left and the present measurement, in one line."""
        _, speed, seconds_left = self._speed(self._every())
        parts = [
            f"{self.images_done} of {self.num_images} images",
            f"{100 * self.share:.0f} %",
            f"{speed:.3g} passes/s",
        ]
        parts += [] if seconds_left is None else [f"at most {duration(seconds_left)} left"]
        if self._now is not None:
            bound = f" of at most {self._now.at_most:.0f}" if math.isfinite(self._now.at_most) else ""
            parts.append(f"{self._now}: pass {self._inside}{bound}")
        return ", ".join(parts)

    def numbers(self, state: State) -> dict[str, object]:
        """The fields of the file, see `docs/jobs.md`."""
        every, now = self._every(), self._now
        seconds, speed, seconds_left = self._speed(every)
        left = self._passes_left(every)
        return {
            "state": state,
            "started": self._began.isoformat(timespec="seconds"),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "processes": self._processes,
            "images": self.num_images,
            "images_done": self.images_done,
            "passes_done": sum(each.passes for each in every),
            "passes_left": round(left) if math.isfinite(left) else None,
            "passes_per_second": speed,
            "seconds": seconds,
            "seconds_left": seconds_left,
            "attack": None if now is None else now.attack,
            "eps": None if now is None else now.eps,
            "batch": None if now is None else list(now.sample_ids),
            "batch_passes": None if now is None else self._inside,
            "batch_passes_at_most": round(now.at_most) if now is not None and math.isfinite(now.at_most) else None,
        }

    def write(self, state: State) -> None:
        """Replaces the file. A file that cannot be written does not end a job whose records can."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                write_json(self._file, self.numbers(state), flush=False)

    def _every(self) -> list[Counts]:
        return [self.counts, *self.others()]

    def _speed(self, every: Sequence[Counts]) -> tuple[float, float, float | None]:
        """Seconds so far, passes per second, and the largest number of seconds left; None if not known."""
        seconds, left = time.monotonic() - self._started, self._passes_left(every)
        speed = max(0, sum(each.passes for each in every) - self._passes_before) / max(seconds, 1e-9)
        return seconds, speed, left / speed if math.isfinite(left) and speed > 0 else None

    def _passes_left(self, every: Sequence[Counts]) -> float:
        """The passes that remain if no image finishes early; nan if not known."""
        left = self._at_most - sum(each.settled for each in every)
        return left if math.isnan(left) else max(0.0, left)


class ProgressLines(Progress):
    """Prints a line after a few seconds, and then one per minute or per percent, whichever is rarer.

    Args:
        plan: the attacks.
        sample_ids: the samples whose progress is shown, of all processes.
        done: records of earlier commands.
        say: prints a line.
        file: JSON file that is replaced at most once a second; None for none.
        processes: their number.
    """

    def __init__(
        self,
        plan: Plan,
        sample_ids: Sequence[int],
        done: Iterable[Record] = (),
        *,
        say: Callable[[str], object],
        file: Path | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__(plan, sample_ids, done, file=file, processes=processes)
        self._say = say
        self._last_line: tuple[float, float] | None = None  # time, share

    def show(self) -> None:
        """Prints a line if it is time for one."""
        super().show()
        now = time.monotonic()
        if self._last_line is None:
            is_due = now - self._started >= _FIRST_LINE
        else:
            then, share = self._last_line
            is_due = now - then >= _BETWEEN_LINES and self.share - share >= 0.01
        if is_due:
            self._last_line = now, self.share
            self._say(self.describe())
