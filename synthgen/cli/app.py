"""The command line itself: its groups, what guards every verb, the entry point."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

from synthgen.errors import SynthgenError, reason
from synthgen.files import forbid_core_dumps

P = ParamSpec("P")

app = typer.Typer(
    name="synthgen",
    help="Turn a sensitive table into a synthetic one that may leave the building.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and those hold rows
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
schema_app = typer.Typer(
    help="Draft a schema, or hold a table against one.", no_args_is_help=True, rich_markup_mode=None
)
runs_app = typer.Typer(rich_markup_mode=None)
models_app = typer.Typer(
    help="Keep bundles by name and version.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(schema_app, name="schema")
app.add_typer(runs_app, name="runs")
app.add_typer(models_app, name="models")


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into one message and the exit code; nobody sees a traceback or a cell.

    ``SYNTHGEN_DEBUG=1`` lets unforeseen exceptions through; their texts may show data.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except SynthgenError as error:
            _say_error(error, as_json=kwargs.get("log_json") is True)
            raise typer.Exit(error.exit_code) from None
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if os.environ.get("SYNTHGEN_DEBUG") == "1":
                raise
            say(f"error: {function.__name__} {reason(error)}")
            raise typer.Exit(1) from None

    return guarded


class _Unread(io.FileIO):
    """A standard stream whose reader may go away (``| head -1``): the rest is let go.

    Work and exit code are those of a run that is read to its end.
    """

    def write(self, data: Any) -> int:
        """Write bytes, or nothing once nobody reads; return how many count as written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def _unread(stream: Any) -> Any:
    """Return a standard stream (None: it is closed) that minds no reader's leaving."""
    if stream is None:
        return None
    raw = io.BufferedWriter(_Unread(stream.fileno(), "w", closefd=False))
    how = {"encoding": stream.encoding, "errors": stream.errors}
    return io.TextIOWrapper(raw, line_buffering=stream.line_buffering, **how)


def main() -> None:
    """Run the command line; the console script ``synthgen``."""
    sys.stdout, sys.stderr = _unread(sys.stdout), _unread(sys.stderr)
    # Small tensors on busy cores: threads that spin while they wait cost five times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, terminate)
    forbid_core_dumps()  # they would hold rows
    app(prog_name="synthgen")


def terminate(number: int, frame: object) -> None:
    """End by an exception, so that locks and half-written files are let go."""
    raise SystemExit(128 + number)


def say(text: str) -> None:
    """Print a line for people; stdout is for results."""
    typer.echo(text, err=True)


def _say_error(error: SynthgenError, *, as_json: bool) -> None:
    if not as_json:
        say(f"error: {error}")
        return
    from synthgen.run_folder import now

    told = {"time": now(), "event": "error", "error": type(error).__name__, "text": str(error)}
    say(json.dumps(told))
