"""A table written again with synthetic rows of its scarce classes below, if that helps.

The output holds the real rows and passes no gate: it is as sensitive as the input.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.credentials import Secrets, credentials
from flows.synthesize import PLAIN, TRAIN_TIMEOUT, ReceiptDict, gpu_slot
from synthgen import pipeline
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, GateRefused
from synthgen.files import sha256
from synthgen.rng import derive, seed_or_fresh
from synthgen.uses import augment_file


@task(name="augment", tags=["train"], timeout_seconds=TRAIN_TIMEOUT, **PLAIN)
def write(path: str, ratio: float, trials: int) -> ReceiptDict:
    """Judge on real rows whether synthetic ones help; if so write the table with them."""
    config = _config(path)
    told = get_run_logger().info
    told(f"seed {config.seed}")
    with gpu_slot() if pipeline.uses_gpu(config) else ExitStack():
        rows, verdict = augment_file(
            config,
            target=str(config.target),
            ratio=ratio,
            trials=trials,
            tell=lambda done: told(f"trial {done} of {trials} done"),
        )
    told(f"{rows:,} synthetic rows below the real ones: {verdict and verdict.word}")
    return {"stage": "augment", "path": config.to, "sha256": sha256(Path(config.to)), "rows": rows}


def _config(path: str) -> RunConfig:
    """Read a configuration; its seed is a new one each time, as that of a scheduled run."""
    config = RunConfig.load(path)
    missing = [key for key in ("data", "to", "target") if not getattr(config, key)]
    if missing:
        raise ConfigError(f"configuration {path} lacks {' and '.join(missing)}")
    given = seed_or_fresh(config.seed)
    seed = derive(given, "run", str(flow_run.id)) % 2**31
    return config.model_copy(update={"seed": seed})


@flow(name="synthgen-augment", persist_result=False, log_prints=False)
def augment(
    path: str, ratio: float = 1.0, trials: int = 10, secrets: Secrets | None = None
) -> ReceiptDict | State[Any]:
    """Add synthetic rows of scarce classes to a table, unless the verdict is "do not use it".

    Parameters
    ----------
    path : str
        A configuration file with `data`, `to` (a file) and `target`.
    ratio : float
        Rows of each class to one of the largest, once augmented.
    trials : int
        Of the verdict: each another split, synthesizer and models.
    secrets : dict, optional
        Variable of the environment to name of a `Secret` block, as of `synthesize`.

    Returns
    -------
    dict
        The receipt of the file; its `rows` are the synthetic ones. A verdict that says no ends the
        run in the state ``Refused`` (of type Failed) with the figures as message; nothing is
        written then.
    """
    with credentials(secrets):
        try:
            return write(path, ratio, trials)
        except GateRefused as error:
            return Failed(name="Refused", message=str(error))
