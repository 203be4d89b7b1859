r"""One frozen, validated configuration of a run, from TOML; one error lists every problem.

>>> RunConfig.from_toml('rows = 100\n[train]\npreset = "wgan-gp"').rows
100
>>> RunConfig.from_toml('rows = 0\n[train]\nstepz = 3')
Traceback (most recent call last):
synthgen.errors.ConfigError: the configuration has 2 problems
  - rows: Input should be greater than or equal to 1
  - train.stepz: Extra inputs are not permitted
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from synthgen.errors import ConfigError
from synthgen.files import read_text
from synthgen.uri import refuse_secrets

MAX_CONFIG_BYTES = 2**20

#: The adversarial part as values: which critic objective, which constraint on the critic.
PRESETS: dict[str, dict[str, str]] = {
    "wgan-gp": {"loss": "wasserstein", "regularizer": "gradient-penalty"},
    "wgan-gp-one-sided": {"loss": "wasserstein", "regularizer": "one-sided-penalty"},
    "wgan-clip": {"loss": "wasserstein", "regularizer": "weight-clipping"},
    "gan": {"loss": "minimax", "regularizer": "none"},
    "ns-gan": {"loss": "non-saturating", "regularizer": "none"},
    "hinge-sn": {"loss": "hinge", "regularizer": "spectral-norm"},
}


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


#: A threshold of the gate; "off" waives its rule (TOML has no null).
Threshold = Annotated[float | None, BeforeValidator(lambda v: None if v == "off" else v)]


class SplitConfig(_Section):
    """How the real table is divided before anything is fitted."""

    holdout: float = Field(0.2, gt=0, lt=1, description="share of rows kept from training")


class EncodeConfig(_Section):
    """How columns become tokens and offsets."""

    bins: int | None = Field(
        None, ge=2, le=256, description="quantile bins a numeric column; None: from rows"
    )
    min_rows: int = Field(
        10, ge=1, le=10_000, description="k: a level, atom or knot stands for at least so many rows"
    )
    max_levels: int = Field(1_000, ge=2, le=20_000, description="levels kept of one column")
    fit_rows: int = Field(
        200_000, ge=1_000, description="rows sampled to fit the encoder of a big table"
    )


class DpConfig(_Section):
    """Differential privacy: of one row, added or removed; see docs/privacy.md."""

    epsilon: float = Field(gt=0, le=100, description="of bundle and samples together")
    delta: float = Field(1e-6, gt=0, le=1e-4, description="well below one over the rows")
    engine: Literal["auto", "tree", "network"] = Field(
        "auto", description="noisy marginals on a tree, or clipped and noised training steps"
    )
    cap: float = Field(
        10.0, gt=0, le=1_000, description="epsilon that all runs on one source may spend together"
    )
    steps: int = Field(1_000, ge=1, le=100_000, description="noised steps; engine network")
    rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="chance of a row to take part in a step; None: by epsilon",
    )
    max_grad_norm: float = Field(1.0, gt=0, le=1_000, description="of one row's gradient")
    charge_metadata: bool = Field(
        False, description="find undeclared bounds and categories by noisy counts, and charge them"
    )

    @property
    def chosen_engine(self) -> Literal["tree", "network"]:
        """Return the engine: for `auto` what was better at this epsilon (benchmarks/dp.py)."""
        return "network" if self.engine == "auto" else self.engine

    @property
    def chosen_rate(self) -> float:
        """Return the rate: larger batches pay where there is budget for them."""
        if self.rate is not None:
            return self.rate
        return 1 / 64 if self.epsilon < 2 else 1 / 32 if self.epsilon < 6 else 1 / 16


class TrainConfig(_Section):
    """The generator, the critic and how they are stepped. None means: from rows and columns."""

    preset: (
        Literal["wgan-gp", "wgan-gp-one-sided", "wgan-clip", "gan", "ns-gan", "hinge-sn"] | None
    ) = Field(
        None, description="the adversarial part; None: wgan-gp where critic_steps asks for it"
    )
    loss: Literal["minimax", "non-saturating", "wasserstein", "hinge"] | None = Field(
        None, description="the critic's objective; None: the preset's"
    )
    regularizer: (
        Literal["none", "gradient-penalty", "one-sided-penalty", "weight-clipping", "spectral-norm"]
        | None
    ) = Field(None, description="the constraint on the critic; None: the preset's")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="skeleton steps")
    critic_steps: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="steps of the adversarial part; None: from rows with a preset, 0 without",
    )
    batch_size: int | None = Field(None, ge=2, le=65_536)
    width: int | None = Field(None, ge=8, le=4_096)
    depth: int | None = Field(None, ge=1, le=8)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    dropout: float | None = Field(
        None, ge=0, lt=1, description="share of hidden units dropped; None: from rows"
    )
    weight_decay: float | None = Field(
        None, ge=0, le=100, description="decoupled, as in AdamW; None: from rows"
    )
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged generator")
    latent: int = Field(32, ge=1, le=1_024)
    n_critic: int = Field(2, ge=1, le=100)
    gradient_penalty: float | None = Field(
        None, gt=0, le=1_000, description="weight of the penalty; None: 0.1"
    )
    weight_clip: float | None = Field(
        None, gt=0, le=1, description="bound of the critic's weights; None: 0.01"
    )
    pac: int = Field(1, ge=1, le=64, description="rows that the critic scores as one (PacGAN)")
    minibatch_discrimination: int = Field(
        0, ge=0, le=256, description="kernels with which the critic compares rows; 0: off"
    )
    critic_norm: Literal["none", "layer", "batch"] = "none"
    clip_grad: float = Field(
        0.0, ge=0, description="largest gradient norm of each network's step; 0: off"
    )
    unroll: int = Field(
        0, ge=0, le=20, description="critic steps that the generator looks ahead; 0: off"
    )
    architecture: Literal["mlp", "conv"] = Field(
        "mlp", description="layers over the encoded row; conv: along its tokens, as in DCGAN"
    )
    harmonics: int = Field(
        8, ge=0, le=64, description="smooth functions that the levels of a number share; 0: none"
    )
    row_adversary: float = Field(
        0.0, ge=0, le=100, description="weight of a critic of whole rows of tokens; 0: off"
    )
    matching: float = Field(
        0.0, ge=0, le=10_000, description="weight of one- and two-way histograms; 0: off"
    )
    evaluate_every: int | None = Field(None, ge=1, description="steps between held-out scores")
    patience: int = Field(
        2, ge=1, description="held-out scores clearly above the best before training is ended"
    )
    max_minutes: float | None = Field(None, gt=0, description="time budget of training")
    dp: DpConfig | None = Field(None, description="differential privacy; left out: none")
    cuda_graphs: bool = Field(
        True, description="on a GPU, record a training step once and replay it"
    )

    @property
    def adversary(self) -> tuple[str, str]:
        """Return the names of loss and regularizer: the preset's, unless overridden."""
        preset = PRESETS[self.preset or "wgan-gp"]
        return self.loss or preset["loss"], self.regularizer or preset["regularizer"]

    @property
    def has_critic(self) -> bool:
        """Whether a critic of the offsets is asked for: by its name or by its number of steps."""
        if self.critic_steps is not None:
            return self.critic_steps > 0
        return any(name is not None for name in (self.preset, self.loss, self.regularizer))

    @model_validator(mode="after")
    def _refuse_what_is_unsound(self) -> TrainConfig:
        if problems := _unsound(self):
            raise ValueError("\n".join(problems))
        return self


def _unsound(train: TrainConfig) -> list[str]:
    """Return every reason why these adversarial settings cannot go together.

    Hinge, minimax and non-saturating losses may do without a constraint, and take any.
    """
    loss, regularizer = train.adversary
    penalised = regularizer in ("gradient-penalty", "one-sided-penalty")
    spectral = regularizer == "spectral-norm"
    batch = train.batch_size
    idle = [] if train.has_critic or train.row_adversary else _critic_settings(train)
    unused = _changed(train, NOT_WITH_DP) if train.dp is not None else []
    rules = {
        f"{', '.join(idle)} would do nothing, because no critic is trained by default; add "
        'preset = "wgan-gp", or another': bool(idle),
        "the wasserstein loss needs a Lipschitz critic: without a regularizer it is unbounded": (
            loss == "wasserstein" and regularizer == "none"
        ),
        f"gradient_penalty has no meaning with regularizer = {regularizer}; choose one of both": (
            train.gradient_penalty is not None and not penalised
        ),
        f"weight_clip has no meaning with regularizer = {regularizer}; choose one of both": (
            train.weight_clip is not None and regularizer != "weight-clipping"
        ),
        "critic_norm = batch mixes rows, but a gradient penalty is the slope of each row's own "
        "score; use layer": penalised and train.critic_norm == "batch",
        "minibatch_discrimination mixes rows, but a gradient penalty is the slope of each row's "
        "own score; use another regularizer": penalised and train.minibatch_discrimination > 0,
        f"critic_norm = {train.critic_norm} divides by a spread that may be small, so that the "
        "slope bound of spectral-norm is lost; use none": spectral and train.critic_norm != "none",
        "row_adversary draws tokens, which enter its critic through embeddings, and spectral-norm "
        "bounds linear layers only: the wasserstein loss is unbounded; use a gradient penalty": (
            train.row_adversary > 0 and spectral and loss == "wasserstein"
        ),
        "train.dp takes noised likelihood steps only; leave out critic, row_adversary, matching "
        "and conv": (
            train.dp is not None
            and bool(
                train.has_critic
                or train.row_adversary
                or train.matching
                or train.architecture == "conv"
            )
        ),
        f"{', '.join(unused)} would do nothing: train.dp takes a fixed number of steps "
        "(train.dp.steps, rate, max_grad_norm), whatever the time and the rows": bool(unused),
        f"batch_size must be a multiple of pac = {train.pac}, and twice as large at least": (
            batch is not None and (batch % train.pac > 0 or batch < 2 * train.pac)
        ),
    }
    return [reason for reason, broken in rules.items() if broken]


def _critic_settings(train: TrainConfig) -> list[str]:
    """Return the names of the settings that differ from their defaults and concern a critic."""
    names = (
        "n_critic",
        "gradient_penalty",
        "weight_clip",
        "pac",
        "minibatch_discrimination",
        "critic_norm",
        "unroll",
    )
    return _changed(train, names)


#: What differentially private training neither reads nor may: rows and time would decide with it.
NOT_WITH_DP = (
    "steps",
    "batch_size",
    "dropout",
    "weight_decay",
    "ema",
    "clip_grad",
    "evaluate_every",
    "patience",
    "max_minutes",
)


def _changed(train: TrainConfig, names: Iterable[str]) -> list[str]:
    return [n for n in names if getattr(train, n) != TrainConfig.model_fields[n].default]


class SampleConfig(_Section):
    """How rows are drawn."""

    sampling_steps: int | None = Field(
        None, ge=1, description="passes a row; None: one column at a time"
    )


class GatePolicy(_Section):
    """What a table must satisfy to leave; the bad end of each interval counts.

    None, written ``"off"`` in TOML, waives a rule, and the decision records that. The rationale of
    each default is in `docs/privacy.md`.
    """

    max_schema_violations: int = Field(
        0, ge=0, description="cells against the schema, in the file as written"
    )
    max_marginal_excess: Threshold = Field(
        0.2, gt=0, le=1, description="worst column's distance beyond the holdout's own"
    )
    max_pair_loss: Threshold = Field(
        0.5, gt=0, le=1, description="share of the dependence between columns that is lost"
    )
    max_c2st: Threshold = Field(
        0.95, gt=0.5, le=1, description="AUC of a detector; useless tables score 1"
    )
    min_utility: Threshold = Field(
        0.5, gt=0, le=1, description="TSTR as a share of TRTR, above guessing"
    )
    samples: int = Field(
        3,
        ge=1,
        le=10,
        description="tables of one model that the privacy rules judge; the first is exported",
    )
    copy_p: float = Field(
        0.01, gt=0, lt=1, description="level of all privacy tests of one table together (Holm)"
    )
    max_copy_excess: float = Field(
        0.005, gt=0, le=1, description="share of copies beyond the holdout's"
    )
    max_dcr_z: Threshold = Field(
        3.0, gt=0, description="standard errors of the DCR share above .5; never a reason to pass"
    )
    max_dcr_share: float = Field(
        0.54, gt=0.5, le=1, description="share up to which no number of standard errors refuses"
    )
    max_membership_auc: Threshold = Field(
        0.6, gt=0.5, le=1, description="AUC of an attack that guesses who was in train"
    )
    max_attack_risk: Threshold = Field(
        0.25, gt=0, le=1, description="risk of the other attacks beyond the holdout's"
    )
    prove_power: bool = Field(
        True, description="whether planted copies must be refused and fresh rows pass"
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="tables of one model that may be judged; then train anew"
    )
    min_privacy_rows: int = Field(
        100, ge=2, description="rows of each table; fewer cannot prove anything: refused"
    )

    @model_serializer(mode="wrap")
    def _write_waivers(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        return written | {k: "off" for k in type(self).model_fields if getattr(self, k) is None}


class ReportConfig(_Section):
    """What is written beside the report, and while training lasts."""

    data_docs: bool = Field(
        False, description="a page of Great Expectations on the output: counts, no samples"
    )
    preview_minutes: float | None = Field(
        None,
        ge=0,
        description="minutes between pictures of real and current synthetic columns, made at a "
        "held-out score; None: none",
    )


class DriftConfig(_Section):
    """The comparison with an earlier run before anything is learnt; see docs/operations.md."""

    reference: str | None = Field(
        None,
        description='a run folder, "last": the last one exported to this target, or "off"; None: '
        "last in a deployment, else off",
    )
    accept: bool = Field(False, description="go on in spite of differences, and record them")
    max_missing: float = Field(0.05, ge=0, le=1, description="change of a column's missing share")
    max_new: float = Field(0.01, ge=0, le=1, description="share of rows with levels not seen then")
    max_psi: float = Field(0.25, gt=0, description="population stability index of a column")
    max_ks: float = Field(0.15, gt=0, le=1, description="distance of a number's distribution")


class ExportConfig(_Section):
    """How the synthetic table is written."""

    keep_formulas: bool = Field(
        False, description="CSV: leave texts that a spreadsheet would run without an apostrophe"
    )


class RunsConfig(_Section):
    """What happens to run folders."""

    keep: int | None = Field(
        None, ge=1, le=10_000, description="newest run folders kept of this target; None: all"
    )


class ScaleConfig(_Section):
    """Rows drawn by several processes, through Dask (extra ``synthgen[dask]``)."""

    workers: int = Field(0, ge=0, le=1_024, description="processes of this machine; 0: none")
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^@]+$",
        description="address of a Dask cluster that sees the run folder under the same path",
    )

    @model_validator(mode="after")
    def _refuse_both(self) -> ScaleConfig:
        if self.workers and self.scheduler:
            raise ValueError("give scale.workers or scale.scheduler, not both")
        return self

    @property
    def is_on(self) -> bool:
        """Whether rows are drawn by several processes."""
        return bool(self.workers or self.scheduler)


class RunConfig(_Section):
    """Everything that decides a run, besides the code and the data.

    Paths and URIs only: a configuration holds no cell and no credential.
    """

    data: str = ""
    schema_path: str | None = None
    warm_start: str | None = Field(
        None, description="bundle of a related table whose weights training starts from"
    )
    target: str | None = None
    to: str = ""
    rows: int = Field(1_000, ge=1, le=1_000_000_000)
    seed: int | None = Field(None, ge=0, lt=2**31, description="None: a fresh one, recorded")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    overwrite: bool = False
    split: SplitConfig = SplitConfig()
    encode: EncodeConfig = EncodeConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    gate: GatePolicy = GatePolicy()
    report: ReportConfig = ReportConfig()
    drift: DriftConfig = DriftConfig()
    runs: RunsConfig = RunsConfig()
    export: ExportConfig = ExportConfig()
    scale: ScaleConfig = ScaleConfig()

    @field_validator("data", "to", "warm_start", "schema_path")
    @classmethod
    def _refuse_secrets_and_nul(cls, value: str | None) -> str | None:
        if "\0" in (value or ""):
            raise ValueError("a NUL character names no place")
        try:
            refuse_secrets(value or "")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _refuse_what_cannot_start_warm(self) -> RunConfig:
        if self.warm_start is not None and self.train.architecture != "mlp":
            raise ValueError('warm_start moves weights of train.architecture = "mlp" only')
        return self

    @classmethod
    def build(cls, values: dict[str, Any]) -> RunConfig:
        """Validate `values`; ConfigError lists every problem by its dotted key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [
                f"  - {'.'.join(map(str, e['loc'])) or 'configuration'}: {reason}"
                for e in error.errors(include_input=False, include_url=False)
                for reason in e["msg"].removeprefix("Value error, ").splitlines()
            ]
            count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
            raise ConfigError("\n".join([f"the configuration has {count}", *problems])) from None

    @classmethod
    def from_toml(cls, text: str) -> RunConfig:
        """Read a TOML text."""
        try:
            values = tomllib.loads(text)  # a ValueError also for a number of 5,000 digits
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the configuration is not valid TOML: {error}") from None
        return cls.build(values)

    @classmethod
    def load(cls, path: str | Path) -> RunConfig:
        """Read a TOML file of at most 1 MiB."""
        path = Path(path)
        try:
            text = read_text(path, MAX_CONFIG_BYTES)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read configuration {path}: {type(error).__name__}") from None
        if text is None:
            raise ConfigError(f"configuration {path} is larger than {MAX_CONFIG_BYTES:,} bytes")
        return cls.from_toml(text)

    def to_toml(self) -> str:
        """Return the configuration as TOML; what is None is left out."""
        return tomlkit.dumps(self.model_dump(exclude_none=True))
