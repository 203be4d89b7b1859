"""A critic of whole rows of tokens, whose gradient reaches the skeleton through its draws.

The skeleton learns by likelihood; this adds what a critic says of rows that it drew. Drawing a row
from nothing would take as many passes as it has tokens. So a few tokens of real rows are drawn
again, one after the other, each from ``p(token | the others)``: if the skeleton is right, the rows
have the distribution of real ones, and nothing is left for the critic to find. Tokens drawn in one
pass would be independent of each other, which it would find, and nobody could mend.

A draw has no derivative. Straight-through (Bengio et al. 2013, arXiv:1308.3432): forward the level
that was drawn, backward the soft one of a Gumbel softmax (Jang et al. 2017, arXiv:1611.01144,
section 2.2). The critic sees exact levels on either side, and never a soft row beside a hard one.

NOTE[DIFF] to a critic of whole rows in other tabular GANs: no offsets, since those are learnt
afterwards given the tokens, against a critic of their own; and fine tokens that are not drawn stay
hidden from it, because the skeleton draws coarse tokens before it knows any fine one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthgen.config import TrainConfig
from synthgen.encode.column import Layout
from synthgen.errors import TrainingError
from synthgen.gan.conv import Pyramid
from synthgen.gan.losses import LOSSES, Loss
from synthgen.gan.nets import Form, Skeleton, d_row, embedding, half_precision, scorer
from synthgen.gan.objective import descend, objective
from synthgen.gan.regularizers import REGULARIZERS, Regularizer
from synthgen.gan.world import ALONE, World

#: Coarse and fine tokens of each row that are drawn again.
REDRAWN = (3, 1)
#: Steps of the skeleton for one of the adversary, and the most rows of a batch that it is shown.
EVERY, ROWS = 4, 128
#: Of the Gumbel softmax: the softer, the smoother its gradient and the less true.
TEMPERATURE = 0.5
#: Embedded rows (B, *d_row) with the drawn tokens unknown, and which tokens are drawn.
Gap = tuple[Tensor, list[int]]


def straight_through(
    logits: Tensor, noise: torch.Generator, temperature: float = TEMPERATURE
) -> Tensor:
    """Return one drawn level a row as one-hot rows (B, L), with the gradient of the soft draw.

    Parameters
    ----------
    logits : (B, L)
        The draw is from their softmax, whatever the temperature (Gumbel 1954).
    noise : torch.Generator
    temperature : float
        Above 0.
    """
    uniform = torch.rand(logits.shape, generator=noise, device=logits.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
    soft = F.softmax((logits + gumbel) / temperature, dim=1)
    hard = F.one_hot(soft.argmax(dim=1), logits.shape[1]).to(soft.dtype)
    # In this order zeros and ones stay exact.
    return hard + (soft - soft.detach())


def choose(skeleton: Skeleton, noise: torch.Generator) -> list[int]:
    """Return the tokens to draw again, in the order of drawing: coarse before fine."""
    c, device = skeleton.n_coarse, noise.device
    counts = (c, len(skeleton.sizes) - c)
    chosen: list[int] = []
    for start, count, most in zip((0, c), counts, REDRAWN, strict=True):
        order = torch.randperm(count, generator=noise, device=device)[:most]
        chosen += (start + order).tolist()
    return chosen


def shown(skeleton: Skeleton, tokens: Tensor, chosen: list[int]) -> Tensor:
    """Return which of the (B, T) tokens are known before `chosen` are drawn: (B, T) bool."""
    known = torch.ones_like(tokens, dtype=torch.bool)
    known[:, skeleton.n_coarse :] = False
    known[:, chosen] = False
    return known


def redraw(skeleton: Skeleton, tokens: Tensor, chosen: list[int], noise: torch.Generator) -> Tensor:
    """Return the tokens `chosen` of real rows (B, T), drawn again one by one.

    Returns
    -------
    (B, G)
        Their one-hot rows side by side, G levels in all; differentiable by the skeleton's weights.
    """
    table, head = skeleton.tokens.table(), skeleton.head()
    x = skeleton.tokens(tokens, shown(skeleton, tokens, chosen))
    drawn = []
    for token in chosen:
        with half_precision(table.device):
            hidden = skeleton.trunk(x)
        logits = skeleton.token_logits(hidden.float(), token, tokens, head)
        one_hot = straight_through(logits, noise)
        drawn.append(one_hot)
        # The parent of a fine token may be among those drawn. (No change in place: autograd.)
        column = torch.arange(tokens.shape[1], device=tokens.device) == token
        tokens = torch.where(column, one_hot.argmax(dim=1, keepdim=True), tokens)
        start = skeleton.starts[token]
        x = skeleton.tokens.show(x, table, token, one_hot @ table[start : start + one_hot.shape[1]])
    return torch.cat(drawn, dim=1)


class RowCritic(nn.Module):
    """Score (P,) of P packs of rows of tokens, some of which are given as one-hot rows.

    Parameters
    ----------
    layout : Layout
    width : int
    config : TrainConfig
        Packing, minibatch discrimination, norm and architecture.
    """

    def __init__(self, layout: Layout, width: int, config: TrainConfig) -> None:
        super().__init__()
        form = Form.of(config)
        self.sizes, self.starts = layout.sizes.tolist(), layout.starts.tolist()
        self.tokens = embedding(layout, width, form)
        self.funnel: nn.Module = nn.Identity()
        if form.architecture == "conv":
            self.funnel = Pyramid(*d_row(layout, width, form), width)  # type: ignore[call-arg]
        self.scorer = scorer(width, config)

    def given(self, tokens: Tensor, known: Tensor, chosen: list[int]) -> Gap:
        """Return the rows without what is drawn: computed once, used for real and fake."""
        return self.tokens(tokens, known), chosen

    def forward(self, drawn: Tensor, gap: Gap) -> Tensor:
        """Return the scores of packs of one-hot rows, (P, pac * G)."""
        x, chosen = gap
        table = self.tokens.table()
        sizes = [self.sizes[token] for token in chosen]
        levels = torch.split(drawn.reshape(len(x), -1), sizes, dim=1)
        for token, one_hot, size in zip(chosen, levels, sizes, strict=True):
            start = self.starts[token]
            x = self.tokens.show(x, table, token, one_hot @ table[start : start + size])
        out: Tensor = self.scorer(self.funnel(x))
        return out


@dataclass
class RowAdversary:
    """The critic of rows, how it is stepped, and what it asks of the skeleton.

    Attributes
    ----------
    critic : RowCritic
    optimizer : torch.optim.Optimizer
    config : TrainConfig
    world : World
    """

    critic: RowCritic
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    world: World = ALONE

    def __post_init__(self) -> None:
        self._new = copy.deepcopy(self.critic.state_dict())

    @classmethod
    def wanted(
        cls,
        layout: Layout,
        width: int,
        config: TrainConfig,
        device: torch.device,
        world: World = ALONE,
    ) -> RowAdversary | None:
        """Return a new one if the settings ask for it."""
        if not config.row_adversary:
            return None
        critic = RowCritic(layout, min(width, 128), config).to(device)
        critic = REGULARIZERS[config.adversary[1]](config).prepare(critic)
        world.share(critic)
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9), fused=True)
        return cls(critic, optimizer, config, world)

    def restart(self) -> None:
        """Forget what was learnt; after losses that were not finite."""
        self.critic.load_state_dict(self._new)
        self.optimizer.state.clear()

    def loss(self, skeleton: Skeleton, tokens: Tensor, noise: torch.Generator) -> Tensor:
        """Train the critic on rows (B, T); return the skeleton's adversarial loss, a scalar.

        Raises
        ------
        TrainingError
            If there are too few rows for two packs.
        """
        config, pac = self.config, self.config.pac
        tokens = tokens[: min(len(tokens), ROWS) // pac * pac]
        if pac > 1 and len(tokens) < 2 * pac:
            raise TrainingError(f"pac = {pac} needs batches and tables of {2 * pac} rows at least")
        for _ in range(config.n_critic):
            self._train(self.critic, self.optimizer, skeleton, tokens, noise)
        judge = self.critic
        if config.unroll:
            judge, judge_step = copy.deepcopy((self.critic, self.optimizer))
            for _ in range(config.unroll):
                self._train(judge, judge_step, skeleton, tokens, noise)
        chosen = choose(skeleton, noise)
        fake = redraw(skeleton, tokens, chosen, noise)
        gap = judge.given(tokens, shown(skeleton, tokens, chosen), chosen)
        return self._values[0].generator(judge(judge.scorer.pack(fake), gap)).mean()

    @property
    def _values(self) -> tuple[Loss, Regularizer]:
        loss, regularizer = self.config.adversary
        return LOSSES[loss], REGULARIZERS[regularizer](self.config)

    def _train(
        self,
        critic: RowCritic,
        optimizer: torch.optim.Optimizer,
        skeleton: Skeleton,
        tokens: Tensor,
        noise: torch.Generator,
    ) -> None:
        """Make one step of the critic."""
        (loss, regularizer), chosen = self._values, choose(skeleton, noise)
        with torch.no_grad():
            fake = redraw(skeleton, tokens, chosen, noise)
        real = torch.cat([F.one_hot(tokens[:, t], skeleton.sizes[t]) for t in chosen], dim=1)
        gap = critic.given(tokens, shown(skeleton, tokens, chosen), chosen)
        real, fake = critic.scorer.pack(real.to(fake.dtype)), critic.scorer.pack(fake)
        eps = torch.rand(len(real), 1, generator=noise, device=real.device)
        losses = objective(lambda x: critic(x, gap), loss, regularizer, real, fake, eps)
        descend(losses.mean(), critic, optimizer, self.config.clip_grad, self.world)
        regularizer.project(critic)
