"""Unit prices recovered from sums: what a token of each class costs, by least squares of cost on token counts.

Belongs here: the fit, and when it is to be believed. Does not belong here: which classes there are, the sums over requests, and
what a price means (`analysis.spend_cells`, `data_quality.prices`).

Cost is close to linear in tokens, cost_i = sum_k price_k tokens_ik, without an intercept. The normal equations need sums of
products alone, so rows stay in the engine, and sums of disjoint calls add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from routing_pipeline.stats.inference import Floats

MIN_CALLS = 30
"""Prices per class are not told apart from fewer calls."""
EXPLAINED = 0.99
"""Least share of the squared cost that prices must explain to be believed."""
WORST_CONDITION = 1e8
"""Of the products, each class scaled to length 1: beyond it the classes move too much alike to be told apart."""


@dataclass(frozen=True)
class PricedTokens:
    """Sums over calls with tokens and a cost.

    gram: sums of products of token counts, classes x classes, tokens^2. against: sums of token count x cost, by class, tokens x USD.
    squared_cost: sum of squared costs, USD^2.
    """

    calls: int
    gram: Floats
    against: Floats
    squared_cost: float

    def __add__(self, other: PricedTokens) -> PricedTokens:
        """Of both, where they have no call in common."""
        return PricedTokens(
            self.calls + other.calls, self.gram + other.gram, self.against + other.against, self.squared_cost + other.squared_cost
        )

    def prices(self) -> Floats | None:
        """USD per token by class, none below 0: argmin over p >= 0 of sum_i (cost_i - sum_k p_k tokens_ik)^2 (Lawson & Hanson 1974, ch. 23).

        Classes that move alike share what they cost in some way; the whole is right all the same. None where the calls are too
        few or tokens do not explain the cost.
        """
        if self.calls < MIN_CALLS or self.squared_cost <= 0:
            return None
        gram, scale = self._scaled()
        # min x'Gx - 2h'x equals min |Rx - b|^2 with R'R = G and R'b = h.
        values, vectors = np.linalg.eigh(gram)
        retained = values > values.max() * 1e-12
        root = vectors[:, retained] * np.sqrt(values[retained])
        target = (vectors[:, retained] / np.sqrt(values[retained])).T @ (self.against / scale)
        prices, _ = scipy.optimize.nnls(root.T, target)
        prices = prices / scale
        missed = self.squared_cost - 2 * float(prices @ self.against) + float(prices @ self.gram @ prices)
        return prices if missed <= (1 - EXPLAINED) * self.squared_cost else None

    def prices_apart(self) -> Floats | None:
        """USD per token by class, each by itself and of either sign: G^-1 h. None where calls are too few or too alike to tell the classes apart."""
        if self.calls < MIN_CALLS or not len(self.against):
            return None
        gram, scale = self._scaled()
        if np.linalg.cond(gram) > WORST_CONDITION:
            return None
        prices: Floats = np.linalg.solve(gram, self.against / scale) / scale
        return prices

    def _scaled(self) -> tuple[Floats, Floats]:
        """Products with each class scaled to length 1, and the lengths."""
        scale = np.sqrt(np.diag(self.gram))
        scale[scale == 0] = 1.0
        return self.gram / np.outer(scale, scale), scale
