"""From options to settings, listeners and a run: what verbs share before they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.errors import ConfigError

if TYPE_CHECKING:
    from synthgen.config import RunConfig
    from synthgen.pipeline import Outcome
    from synthgen.progress import Level
    from synthgen.run_folder import Listener


def settings_from(config: Path | None, **options: Any) -> RunConfig:
    """Return `merged` settings that name an input and a target."""
    settings = merged(config, **options)
    if not settings.data:
        raise ConfigError("no input: give --data, or 'data' in the configuration")
    if not settings.to:
        raise ConfigError("no target: give --to, or 'to' in the configuration")
    return settings


def merged(
    config: Path | None,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    charge_metadata: bool | None = None,
    **options: Any,
) -> RunConfig:
    """Return the file's settings with the options given on the command line on top."""
    from synthgen.config import RunConfig

    base = {} if config is None else RunConfig.load(config).model_dump(exclude_unset=True)
    asked = {"epsilon": epsilon, "delta": delta, "charge_metadata": charge_metadata}
    private = {k: v for k, v in asked.items() if v is not None}
    if private:
        train = base.get("train", {})
        base["train"] = {**train, "dp": {**(train.get("dp") or {}), **private}}
    for section, nested in options.items():
        if isinstance(nested, dict):
            given = {k: v for k, v in nested.items() if v is not None}
            options[section] = {**base.get(section, {}), **given}
        elif isinstance(nested, Path):
            options[section] = str(nested)
    return RunConfig.build({**base, **{k: v for k, v in options.items() if v is not None}})


def level_of(quiet: bool, verbose: bool, log_json: bool) -> Level:
    """Return how much is told; at most one of the three may be asked for."""
    if quiet + verbose + log_json > 1:
        raise ConfigError("give one of --quiet, --verbose and --log-json")
    return "quiet" if quiet else "verbose" if verbose else "json" if log_json else "normal"


@contextmanager
def listening_to(level: Level, tensorboard: Path | None = None) -> Iterator[Listener]:
    """Yield what shows the events of the work inside, live or as lines."""
    from synthgen.progress import progress

    with progress(level=level) as listener:
        if tensorboard is None:
            yield listener
            return
        from synthgen import tensorboard as board

        with board.tensorboard(tensorboard, listener) as both:
            yield both


def run_stages(
    settings: RunConfig,
    run_dir: Path | None,
    level: Level,
    *,
    as_flow: bool,
    tensorboard: Path | None = None,
) -> Outcome:
    """Take a run through all stages, in plain Python or as a Prefect flow."""
    with listening_to(level, tensorboard) as listener:
        if as_flow:
            from flows.environment import use_temporary_server

            use_temporary_server()  # before prefect is imported
            from flows.synthesize import run_flow

            return run_flow(settings, run_dir=run_dir, progress=listener)
        from synthgen import pipeline

        return pipeline.run(settings, run_dir=run_dir, progress=listener)
