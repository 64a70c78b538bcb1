"""What runs of Weights & Biases need besides Lightning's logger."""

import os
from collections.abc import Iterable
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger

from segrobust.callbacks.log_keys import higher_is_better


def require_wandb_login(loggers: Iterable[Logger]) -> None:
    """Refuses to start where wandb would ask for an API key, or fail after minutes.

    To be called before `fit`: Lightning opens the run before the first hook of any callback.

    Args:
        loggers: of the trainer.

    Raises:
        ValueError: a wandb logger that is online, and no credentials.
    """
    if any(isinstance(logger, WandbLogger) and _is_online(logger) for logger in loggers):
        require_login(
            "log offline (`offline: true` of the WandbLogger, or WANDB_MODE=offline), or remove the WandbLogger"
        )


def require_login(mend: str) -> None:
    """Refuses to go on where wandb has no credentials; never asks for them.

    Args:
        mend: what to do instead of logging in.

    Raises:
        ValueError: no credentials.
    """
    import wandb  # here, because it takes a second, and most runs have no such logger

    # A login asks the server who is there, and waits for minutes where it cannot be reached.
    if _has_key(wandb.setup().settings.base_url):
        return
    if not wandb.login(prompt=False, verify=False):
        raise ValueError(f"wandb is not logged in on this machine: set WANDB_API_KEY or run `wandb login`, or {mend}")


def _has_key(server: str) -> bool:
    """Whether the environment or the netrc file holds credentials for a server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    try:
        return any(
            netrc(file).authenticators(urlsplit(server).hostname or "") is not None for file in files if file.is_file()
        )
    except (NetrcParseError, OSError):
        return False


def define_summaries(loggers: Iterable[Logger], keys: Iterable[str]) -> None:
    """Makes wandb's summary keep the most robust value of each key rather than the last one: process 0 alone.

    Args:
        loggers: of the trainer; those of wandb are told.
        keys: log keys of a `RobustnessEvaluation`.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for key in keys:
                logger.experiment.define_metric(key, step_metric="trainer/global_step", summary=best_of(key))


def best_of(key: str) -> str:
    """Which of several values under a log key is that of the most robust network: "max" or "min"."""
    return "max" if higher_is_better(key) else "min"


def is_offline(mode: str | None) -> bool:
    """Whether a run of this mode talks to no server.

    Args:
        mode: "online", "offline", "dryrun", "disabled"; None where nothing is set.
    """
    disabled = os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes")
    return disabled or mode in ("offline", "dryrun", "disabled")


def _is_online(logger: WandbLogger) -> bool:
    """Whether the run that this logger will open talks to a server."""
    modes = (logger._wandb_init.get("mode"), os.environ.get("WANDB_MODE"))
    return not (logger._offline or any(map(is_offline, modes)))
