"""The options that verbs share, a name each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TO = "Target: .csv[.gz|.zst], .parquet, folder/, or a URI: postgresql, sqlite, s3."
To = Annotated[str, typer.Option("--to", help=TO)]
Data = Annotated[
    str | None, typer.Option("--data", help="CSV, Parquet, or a URI: postgresql, sqlite, s3.")
]
Schema = Annotated[Path | None, typer.Option("--schema", help="Schema file; left out: inferred.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with any setting.")]
Target = Annotated[str | None, typer.Option("--target", help="The column a model will predict.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Left out: a fresh one, recorded.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
WarmStart = Annotated[
    Path | None,
    typer.Option("--warm-start", help="Bundle of a related table to go on from (tells of it too)."),
]
Epsilon = Annotated[
    float | None,
    typer.Option("--epsilon", help="Train with differential privacy (needs a declared schema)."),
]
Delta = Annotated[float | None, typer.Option("--delta", help="With --epsilon; default 1e-6.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Every event.")]
TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder for TensorBoard: losses, held-out scores."),
]
LogJson = Annotated[bool, typer.Option("--log-json", help="Every event as JSON, on stderr.")]
ChargeMetadata = Annotated[
    bool,
    typer.Option(
        "--charge-metadata",
        help="With --epsilon: find bounds and categories that the schema leaves out, and charge.",
    ),
]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Run folder; left out: runs/<time>-<random>.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing target.")]
KeepFormulas = Annotated[
    bool,
    typer.Option("--keep-formulas", help="CSV: no apostrophe before what a spreadsheet would run."),
]
AcceptDrift = Annotated[
    bool,
    typer.Option("--accept-drift", help="Go on although the input has changed; recorded."),
]
Folder = Annotated[Path, typer.Option("--folder", help="Where the run folders are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="Bundle folder.")]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Model = Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")]
