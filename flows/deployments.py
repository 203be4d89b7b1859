"""Deployments: flows served with their schedules, started and followed from the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import prefect.settings
from prefect import Flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import LogSort
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ParameterTypeError, PrefectHTTPStatusError
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.credentials import Variable
from flows.synthesize import retrain_if_drifted, synthesize
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, DriftError, GateRefused, StageError

SECONDS_BETWEEN_LOOKS = 1.0
#: Seconds that the last lines of a run are waited for: they are sent every other second.
LAST_LINES = 3.0
#: Seconds after which a run that nobody picks up is spoken of.
PATIENCE = 30.0
START_A_SERVER = (
    "start one: PREFECT_SERVER_ANALYTICS_ENABLED=false "
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="
    "prefect.server.concurrency.lease_storage.filesystem prefect server start; "
    "then export PREFECT_API_URL=http://127.0.0.1:4200/api"
)


def reach_server() -> None:
    """Return if a Prefect server answers at ``PREFECT_API_URL``.

    Raises
    ------
    ConfigError
        If none is named; says how to start one.
    StageError
        If the one that is named does not answer.
    """
    url = prefect.settings.PREFECT_API_URL.value()
    if not url:
        raise ConfigError(f"no Prefect server: PREFECT_API_URL is not set; {START_A_SERVER}")
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise StageError(
                f"no Prefect server answers at PREFECT_API_URL={_without_secret(url)}; "
                f"{START_A_SERVER}"
            )


def _without_secret(url: str) -> str:
    """Return `url` without what stands before an ``@``: a name and a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


# --- serve --------------------------------------------------------------------------------------


def serve(
    configs: Sequence[Path],
    *,
    cron: str | None = None,
    every: float | None = None,
    timezone: str = "UTC",
    only_if_drifted: bool = False,
    secrets: Mapping[str, str] | None = None,
    limit: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve one deployment a configuration, named after its file, until interrupted.

    Parameters
    ----------
    configs : sequence of Path
        Configuration files. Paths in them are relative to the working directory, where ``runs/``
        is too.
    cron, every : str, float
        The schedule, in `timezone`, or the seconds between two runs; neither: runs are triggered.
    only_if_drifted : bool
        Serve the flow that does nothing while the input is what it was.
    secrets : mapping, optional
        Variable of the environment to name of a `Secret` block: see `flows.credentials`.
    limit : int
        Runs at once.

    Raises
    ------
    ConfigError
        If a configuration or the schedule cannot be used, or two have one name.
    """
    reach_server()
    flow: Flow[..., Any] = retrain_if_drifted if only_if_drifted else synthesize
    schedule = _schedule(cron, every, timezone)
    names = [path.stem for path in configs]
    if len(set(names)) < len(names):
        raise ConfigError("two configurations have one name, and deployments are named after them")
    for path in configs:
        _check(RunConfig.load(path), path)
    deployments = [_deployment(flow, path, schedule, secrets) for path in configs]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: what SIGTERM is turned into must be heard.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    runner = _Runner(limit=limit, pause_on_shutdown=True)
    for deployment in deployments:
        say(f"serving {deployment.name} ({flow.name}), {schedule_text(cron, every, timezone)}")
    with suppress(KeyboardInterrupt):  # to be stopped is how serving ends
        asyncio.run(_serve(runner, deployments))
    say("stopped; its schedules are paused until it is served again")


def _check(config: RunConfig, path: Path) -> None:
    missing = [key for key in ("data", "to") if not getattr(config, key)]
    if missing:
        raise ConfigError(f"configuration {path} lacks {' and '.join(missing)}")


def _schedule(cron: str | None, every: float | None, timezone: str) -> Schedule | None:
    if cron is not None and every is not None:
        raise ConfigError("give --cron or --every, not both")
    try:
        if cron is not None:
            return Cron(cron, timezone=timezone)
        return None if every is None else Interval(timedelta(seconds=every), timezone=timezone)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"a schedule that cannot be read: {reason}") from None


def schedule_text(cron: str | None, every: float | None, timezone: str) -> str:
    """Return a schedule in words.

    >>> schedule_text("0 2 * * *", None, "UTC"), schedule_text(None, 60, "UTC")
    ("cron '0 2 * * *' (UTC)", 'every 60 s')
    """
    if cron is not None:
        return f"cron '{cron}' ({timezone})"
    return "on trigger" if every is None else f"every {every:g} s"


def _deployment(
    flow: Flow[..., Any], path: Path, schedule: Schedule | None, secrets: Mapping[str, str] | None
) -> RunnerDeployment:
    parameters = {"path": str(path.absolute()), "secrets": dict(secrets) if secrets else None}
    try:
        flow.validate_parameters(parameters)
    except ParameterTypeError:  # its text would repeat what may be a secret
        known = ", ".join(get_args(Variable))
        raise ConfigError(
            f"--secret takes VARIABLE=BLOCK: one of {known}, and the name of a Secret block "
            "(small letters, digits, dashes)"
        ) from None
    try:
        return RunnerDeployment.from_flow(
            flow,
            name=path.stem,
            schedule=schedule,
            parameters=parameters,
            tags=["synthgen"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:  # croniter's, of a cron expression
        raise ConfigError(f"a deployment that cannot be: {str(error).splitlines()[0]}") from None


async def _serve(runner: Runner, deployments: Sequence[RunnerDeployment]) -> None:
    for deployment in deployments:
        await runner.aadd_deployment(deployment)
    await runner.start()


class _Runner(Runner):
    """A runner that a SIGTERM ends as Ctrl-C does: its schedules are paused first.

    Prefect's own handler calls a coroutine that nobody awaits, and late runs pile up.
    """

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)


# --- trigger ------------------------------------------------------------------------------------


def trigger(
    name: str,
    parameters: dict[str, Any],
    *,
    wait: bool,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[UUID, int]:
    """Start a deployment; return the id of its run, and the exit code (0 if not waited for).

    Parameters
    ----------
    name : str
        Of the deployment, or ``flow/deployment`` where the name alone is not enough.
    parameters : dict
        In place of the deployment's own.
    wait : bool
        Follow the run to its end, and tell its states and its log.

    Raises
    ------
    ConfigError
        If there is no such deployment (known ones are listed), or it refuses a parameter.
    """
    reach_server()
    with get_client(sync_client=True) as client:
        found = _find(client, name)
        described = (found.parameter_openapi_schema or {}).get("properties", {})
        # PostgreSQL keeps JSON in an order of its own.
        known = sorted(described, key=lambda name: described[name].get("position", 0))
        refusal = f"deployment '{name}' refuses these parameters; it takes {', '.join(known)}"
        if not set(parameters) <= set(known):
            raise ConfigError(refusal)
        try:
            run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 409:  # how the server says: of another type
                raise
            raise ConfigError(refusal) from None
        return run.id, _follow(client, run.id, say) if wait else 0


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    flow_name, _, own = name.rpartition("/")
    matching = client.read_deployments(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[own]))
    )
    flows = {d.flow_id: client.read_flow(d.flow_id).name for d in matching}
    found = [d for d in matching if flow_name in ("", flows[d.flow_id])]
    if len(found) == 1:
        return found[0]
    if found:
        full = ", ".join(f"{flows[d.flow_id]}/{d.name}" for d in found)
        raise ConfigError(f"'{name}' is the name of several deployments: {full}")
    known = ", ".join(sorted(d.name for d in client.read_deployments())) or "none"
    raise ConfigError(f"no deployment '{name}'; there are: {known} (synthgen serve makes one)")


def _follow(client: SyncPrefectClient, run: UUID, say: Callable[[str], None]) -> int:
    """Tell states and log lines of a run until it has ended; return its exit code."""
    told, lines, started = "", set[UUID](), time.monotonic()
    while True:
        state = client.read_flow_run(run).state
        if state is not None and state.is_final():
            time.sleep(LAST_LINES)
        _tell_log(client, run, lines, say)
        if state is not None and state.name != told:
            told = str(state.name)
            say(f"run       {told}")
        if state is not None and state.is_final():
            if state.message and exit_code(state):
                say(state.message)
            return exit_code(state)
        if started and told in ("", "Scheduled", "Late") and time.monotonic() > started + PATIENCE:
            say("nobody has picked it up yet: is 'synthgen serve' or a worker running?")
            started = 0.0
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _tell_log(
    client: SyncPrefectClient, run: UUID, told: set[UUID], say: Callable[[str], None]
) -> None:
    """Tell the lines that were not told yet; several processes send them, so not in their order."""
    logs = client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])),
        limit=200,
        sort=LogSort.TIMESTAMP_ASC,
    )
    for record in logs:
        if record.id not in told:
            told.add(record.id)
            if record.name == "prefect.task_runs":  # stages; the rest is Prefect's own talk
                say(record.message)


def exit_code(state: State[Any]) -> int:
    """Return the exit code of a run that ended in `state`, as of `synthgen run`."""
    if state.is_completed():
        return 0
    if state.is_cancelled():
        return 130
    codes = {"Refused": GateRefused.exit_code, "Drifted": DriftError.exit_code}
    return codes.get(str(state.name), 1)


def parse_parameter(text: str) -> tuple[str, Any]:
    """Return name and value of ``key=value``; a value that is JSON is read as such.

    >>> parse_parameter("accept_drift=true"), parse_parameter("path=runs/a")
    (('accept_drift', True), ('path', 'runs/a'))
    """
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise ConfigError(f"--param takes key=value, not '{text}'")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
