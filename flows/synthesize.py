"""The run as a Prefect flow: stages are tasks that pass receipts, never data.

What Prefect stores (parameters, results, states, logs, events) is then a path, a digest, a count or
the text of one of our own errors, which quotes no cell.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.environment import set_defaults

set_defaults()  # Prefect reads its settings when it is imported

from prefect import State, flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows.artifacts import publish  # noqa: E402
from synthgen import pipeline  # noqa: E402
from synthgen.config import RunConfig  # noqa: E402
from synthgen.errors import StageError, boundary  # noqa: E402
from synthgen.run_folder import Listener, Receipt, RunFolder, listening  # noqa: E402

#: path, sha256 and rows of what a stage wrote, as `Receipt` has them.
ReceiptDict = dict[str, Any]


def _is_unforeseen(task: Any, run: Any, state: State[Any]) -> bool:
    """Retry what may pass by itself (a disk, a network); a refusal or bad input will not."""
    return isinstance(state.result(raise_on_failure=False), StageError)


_PLAIN: dict[str, Any] = {"persist_result": False, "log_prints": False, "cache_policy": NO_CACHE}
_RETRIED: dict[str, Any] = {
    **_PLAIN,
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": _is_unforeseen,
}


@task(name="ingest", **_RETRIED)
def ingest(run: str) -> ReceiptDict:
    """Read and split the input."""
    return asdict(pipeline.advance(RunFolder.open(run), "ingest"))


@task(name="train", **_PLAIN)
def train(run: str, before: ReceiptDict) -> ReceiptDict:
    """Fit the synthesizer on what `ingest` wrote."""
    return asdict(pipeline.advance(_folder(run, before), "train"))


@task(name="generate", **_PLAIN)
def generate(run: str, before: ReceiptDict) -> ReceiptDict:
    """Draw rows from the bundle that `train` wrote."""
    return asdict(pipeline.advance(_folder(run, before), "generate"))


@task(name="validate", **_PLAIN)
def validate(run: str, before: ReceiptDict) -> ReceiptDict:
    """Judge what `generate` wrote, and show verdict and measurements as artifacts."""
    folder = _folder(run, before)
    receipt = pipeline.advance(folder, "validate")
    with boundary("artifacts"):
        publish(folder)
    return asdict(receipt)


@task(name="export", **_RETRIED)
def export(run: str, before: ReceiptDict) -> ReceiptDict:
    """Export if the decision that `validate` wrote is a yes."""
    return asdict(pipeline.advance(_folder(run, before), "export"))


def _folder(run: str, before: ReceiptDict) -> RunFolder:
    with boundary("receipt"):
        pipeline.verify(Receipt(**before))
    return RunFolder.open(run)


@flow(name="synthgen", persist_result=False, log_prints=False)
def synthesize(path: str) -> ReceiptDict | State[Any]:
    """Run every stage.

    Parameters
    ----------
    path : str
        A prepared run folder, or a configuration file to prepare one from (under ``runs/``). In a
        folder whose run was cut off, finished stages are kept.

    Returns
    -------
    dict
        The receipt of the exported file. A refusal by the gate ends the run in the state
        ``Refused`` (of type Failed), whose message names each failing rule.
    """
    with ExitStack() as held:
        folder = _prepared(path)
        run = str(folder.root)
        with pipeline.discarding_unless_read(folder):
            held.enter_context(pipeline.at_work(folder))
            receipt = ingest(run)
        for stage in (train, generate, validate):
            receipt = stage(run, receipt)
        decision = folder.decision
        if not decision.passed:
            return Failed(name="Refused", message=pipeline.refusal(decision))
        return export(run, receipt)


def _prepared(path: str) -> RunFolder:
    if Path(path).is_dir():
        return RunFolder.open(path)
    return pipeline.prepare(RunConfig.load(path))


def run_flow(
    config: RunConfig, *, run_dir: str | Path | None = None, progress: Listener | None = None
) -> pipeline.Outcome:
    """Do what `pipeline.run` does, as a flow run; takes, returns and raises the same."""
    with pipeline.reserved(config):  # say what is wrong before anything is made
        folder = pipeline.prepare(config, run_dir)
    with listening(progress), pipeline.discarding_unless_read(folder):
        try:
            with boundary("prefect"):
                state = synthesize(str(folder.root), return_state=True)
        except StageError as error:  # Prefect's own: errors of our stages are in the state
            raise StageError(
                f"{error}; can the Prefect server be reached or started (PREFECT_API_URL)?"
            ) from None
    if state.name == "Refused":
        return pipeline.Outcome(folder, folder.decision, None)
    state.result()
    return pipeline.Outcome(folder, folder.decision, folder.manifest)
