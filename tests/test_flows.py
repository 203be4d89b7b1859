"""The run as a Prefect flow, for real: on a server of its own, with what that server then holds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.environment import DEFAULTS, set_defaults, use_temporary_server
from synthgen.augment import HARM
from synthgen.config import RunConfig
from synthgen.errors import DataError, TargetExists
from synthgen.files import sha256
from synthgen.pipeline import Outcome
from synthgen.run_folder import RunFolder

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def server(prefect_server: dict[str, str]) -> Iterator[None]:
    """Let the flows of this process run at the session's server."""
    set_defaults()
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        temporary_settings,
    )

    with temporary_settings(
        {
            PREFECT_API_URL: prefect_server["PREFECT_API_URL"],
            PREFECT_HOME: Path(prefect_server["PREFECT_HOME"]),
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its thread costs a second a flow
        }
    ):
        yield


def states() -> list[tuple[str, str]]:
    """Return type and name of every finished flow run's state, newest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC)
    known = [r.state for r in runs if r.state is not None and not r.state.is_scheduled()]
    return [(state.type.value, state.name) for state in known]


def artifacts() -> dict[str, str]:
    """Return the newest artifact of each key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=20)
    return {a.key: a.data for a in reversed(found) if a.key}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
class TestFlow:
    def test_a_flow_run_does_what_a_plain_run_does(
        self, finished: Outcome, tiny_config: Configure, tmp_path: Path
    ) -> None:
        from flows.synthesize import run_flow

        outcome = run_flow(tiny_config(tmp_path / "out.csv"), run_dir=tmp_path / "run")
        assert outcome.decision == finished.decision
        assert sha256(tmp_path / "out.csv") == sha256(Path(finished.folder.config.to))
        assert states()[0] == ("COMPLETED", "Completed")
        shown = artifacts()
        assert shown["synthgen-verdict"].startswith("# Passed: demo\n")
        report = tmp_path / "run" / "report.html"
        assert f"Report: [`{report}`](file://{report})" in shown["synthgen-verdict"]
        assert "| Is it safe? | ✓ Yes |" in shown["synthgen-verdict"]
        table = json.loads(shown["synthgen-measurements"])
        assert len(table) == len(outcome.folder.report.measurements)
        assert set(table[0]) == {
            "area", "measure", "value", "95 % interval", "fresh real rows", "rows", "status",
        }  # fmt: skip

    def test_a_refusal_is_a_failed_state_called_refused(
        self, tiny_config: Configure, tmp_path: Path
    ) -> None:
        from flows.synthesize import run_flow

        config = tiny_config(tmp_path / "out.csv", gate={"max_c2st": 0.51})
        outcome = run_flow(config, run_dir=tmp_path / "run")
        assert not outcome.decision.passed
        assert outcome.manifest is None
        assert not (tmp_path / "out.csv").exists()
        assert states()[0] == ("FAILED", "Refused")
        assert "**Hard to tell from real rows**: AUC" in artifacts()["synthgen-verdict"]

    def test_bad_input_raises_what_a_plain_run_raises(
        self, tiny_config: Configure, tmp_path: Path
    ) -> None:
        from flows.synthesize import run_flow

        config = tiny_config(tmp_path / "out.csv", data=str(tmp_path / "gone.csv"))
        with pytest.raises(DataError, match="no such file"):
            run_flow(config, run_dir=tmp_path / "run")
        assert not list(tmp_path.iterdir())
        assert states()[0] == ("FAILED", "Failed")

    def test_a_bad_target_never_becomes_a_flow_run(
        self, tiny_config: Configure, tmp_path: Path
    ) -> None:
        from flows.synthesize import run_flow

        (tmp_path / "out.csv").write_text("old")
        before = len(states())
        with pytest.raises(TargetExists):
            run_flow(tiny_config(tmp_path / "out.csv"), run_dir=tmp_path / "run")
        assert len(states()) == before

    def test_a_deployment_gives_a_configuration_file(
        self,
        tiny_config: Configure,
        demo_files: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from flows.synthesize import retrain_if_drifted, synthesize, validate_only

        monkeypatch.chdir(tmp_path)
        (tmp_path / "nightly.toml").write_text(tiny_config(tmp_path / "out.csv").to_toml())
        receipt = synthesize("nightly.toml")
        assert receipt == {
            "stage": "export",
            "path": str(tmp_path / "out.csv"),
            "sha256": sha256(tmp_path / "out.csv"),
            "rows": 400,
        }
        (run,) = (tmp_path / "runs").iterdir()
        assert RunFolder.open(run).config.seed != 1, "another night, other rows"

        # the next night: the same input, so there is nothing to do; then another one
        (tmp_path / "watch.toml").write_text(
            tiny_config(tmp_path / "out.csv", overwrite=True).to_toml()
        )
        state = retrain_if_drifted("watch.toml", return_state=True)
        assert (state.type.value, state.name) == ("COMPLETED", "Unchanged")
        frame = pd.read_csv(demo_files / "admissions.csv", dtype=str, keep_default_na=False)
        frame.loc[frame.index % 2 == 0, "ward"] = frame["ward"].mode()[0]
        frame.to_csv(tmp_path / "other.csv", index=False)
        config = tiny_config(tmp_path / "out.csv", overwrite=True, data=str(tmp_path / "other.csv"))
        (tmp_path / "other.toml").write_text(config.to_toml())
        state = synthesize("other.toml", return_state=True)
        assert (state.type.value, state.name) == ("FAILED", "Drifted")
        assert "column 'ward': PSI" in str(state.message)
        assert [p.name for p in (tmp_path / "runs").iterdir()] == [run.name]

        # a run that stands: judged again, and gone on with though nothing is left to do
        again = validate_only(str(run))
        assert again["path"] == str(run / "decision.json")
        receipt = synthesize(str(run))
        assert receipt["sha256"] == sha256(tmp_path / "out.csv")

    @pytest.mark.parametrize(("harm", "state"), [(HARM, "Completed"), (-1.0, "Refused")])
    def test_augment_writes_what_its_verdict_lets_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: float, state: str
    ) -> None:
        """Classes told apart without an error lose nothing; nothing gains as much as is asked."""
        from flows.augment import augment

        monkeypatch.setattr("synthgen.augment.HARM", harm)

        rng = np.random.default_rng(0)
        sick = np.repeat(["no", "yes"], [200, 40])
        lab = (rng.normal(size=240) + 50 * (sick == "yes")).round(2)
        frame = pd.DataFrame({"lab": lab, "ward": rng.choice(["a", "b"], 240), "sick": sick})
        frame.to_csv(tmp_path / "in.csv", index=False)
        config = RunConfig.build(
            {
                "data": str(tmp_path / "in.csv"),
                "to": str(tmp_path / "more.csv"),
                "target": "sick",
                "seed": 1,
                "train": {"steps": 10, "width": 16, "depth": 1},
            }
        )
        (tmp_path / "augment.toml").write_text(config.to_toml())
        done = augment(str(tmp_path / "augment.toml"), ratio=0.5, trials=3, return_state=True)
        assert done.name == state, done.message
        if state == "Refused":
            assert "do not use it" in str(done.message)
            assert not (tmp_path / "more.csv").exists()
        else:
            assert done.result()["sha256"] == sha256(tmp_path / "more.csv")
            assert len(pd.read_csv(tmp_path / "more.csv")) == 240 + done.result()["rows"]
            assert done.result()["rows"] == 60  # to half of 200

    def test_the_slot_of_the_gpu_is_one(self) -> None:
        from prefect import get_client
        from prefect.concurrency.sync import concurrency

        from flows.synthesize import GPU, gpu_slot

        with gpu_slot():
            with get_client(sync_client=True) as client:
                limit = client.read_global_concurrency_limit_by_name(GPU)
            assert (limit.limit, limit.active_slots) == (1, 1)
            with pytest.raises(TimeoutError), concurrency(GPU, timeout_seconds=1, strict=True):
                pass


def test_a_user_s_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    set_defaults()
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_a_user_s_server_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PREFECT_HOME", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    use_temporary_server()
    assert "PREFECT_HOME" not in os.environ


def test_without_a_server_the_home_is_private_and_vanishes(tmp_path: Path) -> None:
    code = (
        "import os, stat; from pathlib import Path\n"
        "from flows.environment import use_temporary_server; use_temporary_server()\n"
        "home = Path(os.environ['PREFECT_HOME']); print(home)\n"
        "print(oct(stat.S_IMODE(home.stat().st_mode)))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**clean, "HOME": str(tmp_path)},
    )  # fmt: skip
    home, mode = done.stdout.split()
    assert mode == "0o700"
    assert not Path(home).exists()
