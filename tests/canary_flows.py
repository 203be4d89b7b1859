"""Run by test_canary in a process of its own: a flow that passes, one refused, one that crashes.

Usage: python canary_flows.py FOLDER, which holds ``in.csv`` and gets everything else.
"""

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    from flows.environment import use_temporary_server

    use_temporary_server()
    from prefect import flow

    from flows.synthesize import ingest, run_flow, synthesize, train
    from synthgen import pipeline
    from synthgen.config import RunConfig
    from synthgen.errors import StageError

    def config(name: str, **gate: object) -> RunConfig:
        return RunConfig.build(
            {
                "data": str(folder / "in.csv"),
                "to": str(folder / f"{name}.csv"),
                "rows": 400,
                "seed": 1,
                "device": "cpu",
                "train": {"steps": 40, "critic_steps": 10, "width": 32, "depth": 1},
                "gate": dict.fromkeys(
                    ("max_marginal_excess", "max_pair_loss", "max_c2st", "max_dcr_z"), "off"
                )
                | {"prove_power": False, "samples": 2 if name == "passed" else 1}
                | gate,
            }
        )

    passed = run_flow(config("passed"), run_dir=folder / "passed")
    refused = run_flow(config("refused", max_c2st=0.51), run_dir=folder / "refused")

    @flow(name="crash")
    def crash(run: str) -> None:
        """Fail in the middle of training, with an exception whose text quotes a cell."""
        receipt = ingest(run)
        stored = Path(run) / "schema.toml"
        text = stored.read_text()
        at = text.index('name = "ward"')
        stored.write_text(text[:at] + text[at:].replace('"categorical"', '"numeric"', 1))
        train(run, receipt)

    crashed = pipeline.prepare(config("crashed"), folder / "crashed")
    try:
        crash(str(crashed.root))
        error = ""
    except StageError as caught:
        error = str(caught)
    missing = synthesize(str(folder / "gone.toml"), return_state=True)
    told = {
        "passed": passed.decision.passed,
        "refused": not refused.decision.passed,
        "crashed": error,
        "missing": missing.type.value,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
