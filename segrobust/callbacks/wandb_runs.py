"""Login and summaries of Weights & Biases, which Lightning's logger lacks."""

import os
from collections.abc import Iterable
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger

from segrobust.callbacks.log_keys import higher_is_better


def require_wandb_login(loggers: Iterable[Logger]) -> None:
    """Refuses to start if wandb would ask for an API key, or fail after minutes.

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


def require_login(fix: str) -> None:
    """Raises if wandb has no credentials; never asks for them.

    Args:
        fix: an alternative to logging in.

    Raises:
        ValueError: no credentials.
    """
    import wandb  # here, because it takes a second, and most runs have no such logger

    # A login asks the server for the user, and waits for minutes if the server cannot be reached.
    if _has_key(wandb.setup().settings.base_url):
        return
    if not wandb.login(prompt=False, verify=False):
        raise ValueError(f"wandb is not logged in on this machine: set WANDB_API_KEY or run `wandb login`, or {fix}")


def _has_key(server: str) -> bool:
    """Whether the environment or the netrc file has credentials for a server."""
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
    """Makes the summary of wandb hold the most robust value of each key, not the last one; on process 0.

    Args:
        loggers: of the trainer; others than those of wandb are ignored.
        keys: log keys of a `RobustnessEvaluation`.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for key in keys:
                logger.experiment.define_metric(key, step_metric="trainer/global_step", summary=best_of(key))


def best_of(key: str) -> str:
    """Whether the most robust network has the "max" or the "min" of a log key."""
    return "max" if higher_is_better(key) else "min"


def is_offline(mode: str | None) -> bool:
    """Whether a run of this mode uses no server.

    Args:
        mode: "online", "offline", "dryrun", "disabled"; None if nothing is set.
    """
    disabled = os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes")
    return disabled or mode in ("offline", "dryrun", "disabled")


def _is_online(logger: WandbLogger) -> bool:
    """Whether the run of this logger uses a server."""
    modes = (logger._wandb_init.get("mode"), os.environ.get("WANDB_MODE"))
    return not (logger._offline or any(map(is_offline, modes)))
