"""Run by test_canary in processes of their own: a flow that passes, one refused, one that crashes;
and one that reads the table at ``GUARDED_URI`` by a password, which comes on stdin, from a block.

Usage: python canary_flows.py FOLDER, which holds ``in.csv`` and gets everything else. With a second
word, ``cut``: a run that is cancelled while it trains, and one that is killed there.
"""

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from synthgen.config import RunConfig


def config(folder: Path, name: str, **gate: object) -> RunConfig:
    return RunConfig.build(
        {
            "data": str(folder / "in.csv"),
            "to": str(folder / f"{name}.csv"),
            "rows": 400,
            "seed": 1,
            "device": "cpu",
            "train": {"steps": 40, "critic_steps": 10, "width": 32, "depth": 1},
            "report": {"data_docs": True},
            "gate": dict.fromkeys(
                ("max_marginal_excess", "max_pair_loss", "max_c2st", "max_dcr_z"), "off"
            )
            | {"prove_power": False, "samples": 2 if name == "passed" else 1}
            | gate,
        }
    )


def cut(folder: Path) -> None:
    """Be cancelled in the middle of training, and then killed there."""
    from synthgen.cli.app import terminate
    from synthgen.pipeline import run

    def end_by(number: int) -> Any:
        def listener(event: dict[str, Any]) -> None:
            if event.get("event") == "step":
                os.kill(os.getpid(), number)

        return listener

    signal.signal(signal.SIGTERM, terminate)
    try:
        run(
            config(folder, "cancelled"),
            run_dir=folder / "cancelled",
            progress=end_by(signal.SIGTERM),
        )
    except SystemExit:
        run(config(folder, "killed"), run_dir=folder / "killed", progress=end_by(signal.SIGKILL))


def main(folder: Path) -> None:
    from flows.environment import use_temporary_server

    use_temporary_server()
    from prefect import flow
    from prefect.blocks.system import Secret

    from flows.credentials import Secrets, credentials
    from flows.synthesize import ingest, run_flow, synthesize, train
    from synthgen import pipeline
    from synthgen.errors import StageError, SynthgenError

    passed = run_flow(config(folder, "passed"), run_dir=folder / "passed")
    refused = run_flow(config(folder, "refused", max_c2st=0.51), run_dir=folder / "refused")

    @flow(name="crash")
    def crash(run: str) -> None:
        """Fail in the middle of training, with an exception whose text quotes a cell."""
        receipt = ingest(run)
        stored = Path(run) / "schema.toml"
        text = stored.read_text()
        at = text.index('name = "ward"')
        stored.write_text(text[:at] + text[at:].replace('"categorical"', '"numeric"', 1))
        train(run, receipt)

    crashed = pipeline.prepare(config(folder, "crashed"), folder / "crashed")
    try:
        crash(str(crashed.root))
        error = ""
    except StageError as caught:
        error = str(caught)

    @flow(name="guarded")
    def read_guarded(run: str, secrets: Secrets | None = None) -> bool:
        """Read as a run does; say whether the password is in what ``ps e`` shows meanwhile."""
        with credentials(secrets):
            ingest(run)
            shown = [Path(f"/proc/self/{name}").read_bytes() for name in ("environ", "cmdline")]
        assert "PGPASSWORD" not in os.environ
        return any(password.encode() in text for text in shown)

    password = sys.stdin.read()
    Secret(value=password).save("clinic-password")
    reading = config(folder, "read").model_copy(update={"data": os.environ["GUARDED_URI"]})
    folders = [pipeline.prepare(reading, folder / name) for name in ("guarded", "without")]
    shown = read_guarded(str(folders[0].root), {"PGPASSWORD": "clinic-password"})
    try:
        pipeline.ingest(folders[1])
        without = ""
    except SynthgenError as caught:
        without = str(caught)
    missing = synthesize(str(folder / "gone.toml"), return_state=True)
    told = {
        "passed": passed.decision.passed,
        "refused": not refused.decision.passed,
        "crashed": error,
        "missing": missing.type.value,
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "outside": is_stopped(),
        "shown": shown,
        "guarded": folders[0].finished("ingest") is not None,
        "without": without,
    }
    sys.stdout.write(json.dumps(told) + "\n")


def is_stopped() -> bool:
    """Whether a connection to the outside (here an address of nobody, RFC 5737) is stopped."""
    try:
        socket.create_connection(("192.0.2.1", 9), timeout=1).close()
    except ConnectionRefusedError as error:
        return "stopped by the test" in str(error)
    return False


if __name__ == "__main__":
    (cut if sys.argv[2:] == ["cut"] else main)(Path(sys.argv[1]))
