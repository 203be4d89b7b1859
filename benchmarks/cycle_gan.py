"""CycleGAN for rows (Zhu et al. 2017, arXiv 1703.10593): what translating.py compares with.

Two generators, there and back, and two critics of least squares. Numbers are normal scores of their
rank in both domains together, with one more level that says whether they are missing; levels are
one-hot, drawn straight through a Gumbel softmax. The kept columns are shown to all four networks
and never changed, so it is a conditional CycleGAN. Besides the adversarial loss the generators have
the cycle's (L1 of numbers, cross entropy of levels) and the identity's, with weights 10 and 5 in
the paper.

NOTE[DIFF]: perceptrons instead of convolutions, no pool of earlier fakes, a batch of 256 rows and
not of one; the rate falls to 0 over the second half, as there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch import Tensor, nn

from synthgen.schema import Column

Floats = npt.NDArray[np.float64]
WIDTH, BATCH, RATE = 128, 256, 5e-4


class View:
    """Rows as vectors and back: numbers first, then one-hot blocks.

    Parameters
    ----------
    frame : DataFrame
        Training rows of both domains.
    columns : sequence of Column
    """

    def __init__(self, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
        self.numbers = [c.name for c in columns if c.kind == "numeric"]
        self.sorted = {n: np.sort(frame[n].dropna().to_numpy(float)) for n in self.numbers}
        names = [c.name for c in columns if c.kind != "numeric"]
        texts = {n: frame[n].astype("str").fillna("").astype(object) for n in names}
        self.levels = {n: sorted(t.unique()) for n, t in texts.items()}
        self.gaps = [n for n in self.numbers if frame[n].isna().any()]
        self.blocks = [*(2 for _ in self.gaps), *(len(x) for x in self.levels.values())]
        self.width = len(self.numbers) + sum(self.blocks)

    def encode(self, frame: pd.DataFrame) -> Tensor:
        """Return (N, width) float32."""
        parts: list[Floats] = []
        for name in self.numbers:
            line, x = self.sorted[name], frame[name].to_numpy(float)
            low, high = (np.searchsorted(line, x, side) for side in ("left", "right"))
            rank = ((low + high) / 2 / len(line)).clip(0.5 / len(line), 1 - 0.5 / len(line))
            parts.append(np.where(np.isnan(x), 0.0, norm.ppf(rank)))
        for name in self.gaps:
            gone = frame[name].isna().to_numpy()
            parts += [(~gone).astype(float), gone.astype(float)]
        for name, levels in self.levels.items():
            texts = frame[name].astype("str").fillna("").to_numpy(object)
            parts += [(texts == x).astype(float) for x in levels]
        return torch.from_numpy(np.column_stack(parts)).float()

    def decode(self, x: Tensor, like: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of (N, width), in the columns and dtypes of `like`."""
        values, out = x.double().numpy(), like.copy()
        start = len(self.numbers)
        for i, name in enumerate(self.numbers):
            out[name] = np.quantile(self.sorted[name], norm.cdf(values[:, i]), method="lower")
        for name, levels in [*((n, None) for n in self.gaps), *self.levels.items()]:
            width = 2 if levels is None else len(levels)
            level = values[:, start : start + width].argmax(axis=1)
            start += width
            if levels is None:
                out.loc[level == 1, name] = np.nan
            else:
                texts = pd.Series(np.array(levels, object)[level], out.index)
                out[name] = texts.where(texts != "").astype(like[name].dtype)
        return out


class Mapper(nn.Module):
    """Rows (B, width) and what is kept of them (B, kept) to rows of the other domain."""

    def __init__(self, view: View, kept: int) -> None:
        super().__init__()
        self.view = view
        self.net = perceptron(view.width + kept, view.width)

    def forward(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows, one-hot, and the logits of their levels."""
        n = len(self.view.numbers)
        change = self.net(torch.cat([x, kept], dim=1))
        numbers, logits = x[:, :n] + change[:, :n], 3 * x[:, n:] + change[:, n:]
        blocks = [F.gumbel_softmax(b, 0.5, hard=True) for b in logits.split(self.view.blocks, 1)]
        return torch.cat([numbers, *blocks], dim=1), logits


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """Return two hidden layers."""
    layers: list[nn.Module] = [nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.2)]
    layers += [nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, outputs)]
    return nn.Sequential(*layers)


def unlike(view: View, logits: Tensor, made: Tensor, x: Tensor) -> Tensor:
    """Return how far rows are from (B, width) `x`: L1 of numbers, cross entropy of levels."""
    n = len(view.numbers)
    total = (made[:, :n] - x[:, :n]).abs().mean() if n else made.new_zeros(())
    if view.blocks:
        pairs = zip(logits.split(view.blocks, 1), x[:, n:].split(view.blocks, 1), strict=True)
        total = total + torch.stack([F.cross_entropy(p, q) for p, q in pairs]).mean()
    return total


class CycleGan:
    """Fitted on rows of two domains; `translate` goes there, or back.

    Parameters
    ----------
    here, there : DataFrame
    columns : sequence of Column
    keep : collection of str
    cycle, identity : float
        Weights of these losses; the adversarial one's is 1.
    steps, seed : int
    """

    def __init__(
        self,
        here: pd.DataFrame,
        there: pd.DataFrame,
        columns: Sequence[Column],
        keep: Collection[str],
        *,
        cycle: float,
        identity: float,
        steps: int,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
        both = pd.concat([here, there], ignore_index=True)
        self.view = View(both, [c for c in columns if c.name not in keep])
        self.kept = View(both, [c for c in columns if c.name in keep])
        width = self.kept.width
        self.maps = nn.ModuleList([Mapper(self.view, width) for _ in range(2)])
        critics = nn.ModuleList([perceptron(self.view.width + width, 1) for _ in range(2)])
        rows = [(self.view.encode(f), self.kept.encode(f)) for f in (here, there)]
        steppers = [
            torch.optim.Adam(m.parameters(), RATE, (0.5, 0.999)) for m in (self.maps, critics)
        ]
        for step in range(steps):
            for stepper in steppers:
                stepper.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
            batch = []
            for x, kept in rows:
                at = torch.randint(len(x), (BATCH,))
                batch.append((x[at], kept[at]))
            loss, fakes = torch.zeros(()), []
            for i, (x, kept) in enumerate(batch):
                made, _ = self.maps[i](x, kept)
                back, logits = self.maps[1 - i](made, kept)
                same, own = self.maps[1 - i](x, kept)  # what maps to this domain leaves it
                says = critics[1 - i](torch.cat([made, kept], dim=1))
                loss = loss + ((says - 1) ** 2).mean()
                loss = loss + cycle * unlike(self.view, logits, back, x)
                loss = loss + identity * unlike(self.view, own, same, x)
                fakes.append(torch.cat([made, kept], dim=1).detach())
            steppers[0].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            steppers[0].step()
            losses = [
                ((critics[i](torch.cat(batch[i], dim=1)) - 1) ** 2).mean()
                + (critics[i](fakes[1 - i]) ** 2).mean()
                for i in range(2)
            ]
            steppers[1].zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            steppers[1].step()

    @torch.no_grad()
    def translate(self, rows: pd.DataFrame, *, back: bool = False) -> pd.DataFrame:
        """Return the rows as if from the other domain."""
        made, _ = self.maps[int(back)](self.view.encode(rows), self.kept.encode(rows))
        return self.view.decode(made, rows)
