"""Runs as Prefect flows: stages are tasks that pass receipts, never data.

What Prefect stores (parameters, results, states, logs, events) is then a path, a digest, a count or
the text of one of our own errors, which quotes no cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, flow, get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.artifacts import publish
from flows.credentials import Secrets, credentials
from synthgen import pipeline
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, DriftError, StageError, SynthgenError, boundary
from synthgen.progress import lines
from synthgen.run_folder import (
    Listener,
    Receipt,
    RunFolder,
    is_listened_to,
    listening,
)

#: path, sha256 and rows of what a stage wrote, as `Receipt` has them.
ReceiptDict = dict[str, Any]
#: Name of the global concurrency limit, and the seconds after which a dead holder's slot is free.
GPU, GPU_LEASE = "synthgen-gpu", 60.0
#: Seconds after which a stage is given up; its run folder can be gone on with.
IO_TIMEOUT, JUDGE_TIMEOUT, TRAIN_TIMEOUT = 6 * 3_600, 12 * 3_600, 7 * 24 * 3_600


def _may_pass(task: Any, run: Any, state: State[Any]) -> bool:
    """Retry what may pass by itself (a disk, a server); a refusal or bad input will not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) or type(error) is SynthgenError


PLAIN: dict[str, Any] = {"persist_result": False, "log_prints": False, "cache_policy": NO_CACHE}
#: Reading and writing may be tried again. Training may not: with differential privacy a failed try
#: has spent its budget, and without it goes on from its checkpoint when the run does.
_RETRIED: dict[str, Any] = {
    **PLAIN,
    "timeout_seconds": IO_TIMEOUT,
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": _may_pass,
}


@task(name="ingest", tags=["io"], **_RETRIED)
def ingest(run: str) -> ReceiptDict:
    """Read and split the input."""
    return _advance(RunFolder.open(run), "ingest")


@task(name="train", tags=["train"], timeout_seconds=TRAIN_TIMEOUT, **PLAIN)
def train(run: str, before: ReceiptDict) -> ReceiptDict:
    """Fit the synthesizer on what `ingest` wrote."""
    folder = _folder(run, before)
    with gpu_slot() if pipeline.uses_gpu(folder.config) else ExitStack():
        return _advance(folder, "train")


@task(name="generate", tags=["sample"], timeout_seconds=JUDGE_TIMEOUT, **PLAIN)
def generate(run: str, before: ReceiptDict) -> ReceiptDict:
    """Draw rows from the bundle that `train` wrote."""
    return _advance(_folder(run, before), "generate")


@task(name="validate", tags=["judge"], timeout_seconds=JUDGE_TIMEOUT, **PLAIN)
def validate(run: str, before: ReceiptDict) -> ReceiptDict:
    """Judge what `generate` wrote, and show verdict and measurements as artifacts."""
    folder = _folder(run, before)
    receipt = _advance(folder, "validate")
    with boundary("artifacts"):
        publish(folder)
    return receipt


@task(name="export", tags=["io"], **_RETRIED)
def export(run: str, before: ReceiptDict) -> ReceiptDict:
    """Export if the decision that `validate` wrote is a yes."""
    return _advance(_folder(run, before), "export")


def _folder(run: str, before: ReceiptDict) -> RunFolder:
    with boundary("receipt"):
        pipeline.verify(Receipt(**before))
    return RunFolder.open(run)


def _advance(folder: RunFolder, stage: str) -> ReceiptDict:
    with _telling():
        return asdict(pipeline.advance(folder, stage))


@contextmanager
def _telling() -> Iterator[None]:
    """Tell Prefect's log what happens (names and numbers), unless somebody listens already."""
    if is_listened_to():
        yield
        return
    with listening(lines(get_run_logger().info)):
        yield


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold the one slot of the limit `GPU` at the Prefect server, made if it is not there.

    Runs outside Prefect are kept apart by the lock that `pipeline.train` takes on the machine.
    """
    with get_client(sync_client=True) as client:
        if GPU not in {limit.name for limit in client.read_global_concurrency_limits(100, 0)}:
            client.upsert_global_concurrency_limit_by_name(GPU, 1)
    with concurrency(GPU, occupy=1, strict=True, lease_duration=GPU_LEASE):
        yield


@flow(name="synthgen", persist_result=False, log_prints=False)
def synthesize(
    path: str, accept_drift: bool = False, secrets: Secrets | None = None
) -> ReceiptDict | State[Any]:
    """Run every stage.

    Parameters
    ----------
    path : str
        A prepared run folder, or a configuration file to prepare one from (under ``runs/``). In a
        folder whose run was cut off, finished stages are kept.
    accept_drift : bool
        Go on although the input is not what it was in the last accepted run; recorded.
    secrets : dict, optional
        Variable of the environment (``PGPASSWORD``) to name of a `Secret` block, for reading and
        exporting: see `flows.credentials`.

    Returns
    -------
    dict
        The receipt of the exported file. A refusal by the gate ends the run in the state
        ``Refused``, an input that has drifted in ``Drifted`` (of type Failed); the message names
        each rule or difference.
    """
    return _run(_prepared(path, accept_drift=accept_drift), secrets)


@flow(name="synthgen-retrain-if-drifted", persist_result=False, log_prints=False)
def retrain_if_drifted(path: str, secrets: Secrets | None = None) -> ReceiptDict | State[Any]:
    """Run every stage if there is no accepted run yet, or the input has drifted since.

    Parameters
    ----------
    path : str
        A configuration file.
    secrets : dict, optional
        As of `synthesize`.

    Returns
    -------
    dict
        The receipt of the exported file. An input that is as it was ends the run in the state
        ``Unchanged`` (of type Completed): what was exported last stays.
    """
    folder = _prepared(path, accept_drift=True)
    if folder.config.drift.reference is not None:
        with pipeline.discarding_unless_read(folder), credentials(secrets), boundary("drift"):
            table, _ = pipeline.read_input(folder.config)
            found = pipeline.drift(folder.config, table)
        if found is not None and not found:
            pipeline.discard(folder)
            return Completed(name="Unchanged", message="the input is what it was; nothing was done")
    return _run(folder, secrets)


@flow(name="synthgen-validate-only", persist_result=False, log_prints=False)
def validate_only(path: str) -> ReceiptDict | State[Any]:
    """Judge the synthetic table of a run folder again, and export nothing.

    Parameters
    ----------
    path : str
        A run folder.

    Returns
    -------
    dict
        The receipt of the decision; a refusal is the state ``Refused``.
    """
    folder = RunFolder.open(path)
    with folder.held():
        drawn = folder.receipt("generate", folder.synthetic_path, folder.config.rows)
        folder.forget("validate")
        receipt = validate(str(folder.root), asdict(drawn))
    return _verdict(folder) or receipt


def _run(folder: RunFolder, secrets: Secrets | None) -> ReceiptDict | State[Any]:
    run = str(folder.root)
    with ExitStack() as held:
        with pipeline.discarding_unless_read(folder), credentials(secrets):
            held.enter_context(pipeline.at_work(folder))
            try:
                receipt = ingest(run)
            except DriftError as error:
                pipeline.discard(folder)
                return Failed(name="Drifted", message=str(error))
        for stage in (train, generate, validate):
            receipt = stage(run, receipt)
        refused = _verdict(folder)
        if refused is None:
            with credentials(secrets):
                receipt = export(run, receipt)
        pipeline.retain(folder)
    return refused or receipt


def _verdict(folder: RunFolder) -> State[Any] | None:
    decision = folder.decision
    if decision.passed:
        return None
    return Failed(name="Refused", message=pipeline.refusal(decision))


def _prepared(path: str, *, accept_drift: bool) -> RunFolder:
    """Return the run folder `path`, or a new one for the configuration `path`.

    A flow run that is run again (a retry, or "rerun" after a crash) finds its own folder by its id.
    """
    if Path(path).is_dir():
        if accept_drift:
            raise ConfigError("accept_drift is for a configuration; a run folder has its own")
        return RunFolder.open(path)
    config = RunConfig.load(path)
    if accept_drift:
        config = config.model_copy(
            update={"drift": config.drift.model_copy(update={"accept": True})}
        )
    mark = str(flow_run.id)[-8:]  # the first ones tell the time: two runs could share them
    for earlier in Path("runs").glob(f"*-{mark}"):
        return RunFolder.open(earlier)
    root = pipeline.new_run_dir()
    return pipeline.prepare(
        config, root.with_name(f"{root.name.rsplit('-', 1)[0]}-{mark}"), scheduled=True
    )


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
    if state.name == "Drifted":
        raise DriftError(str(state.message))
    if state.name == "Refused":
        return pipeline.Outcome(folder, folder.decision, None)
    state.result()
    return pipeline.Outcome(folder, folder.decision, folder.manifest)
