"""Whether the choice for one request changes what comes later in its session: how many requests, and of which size.

Belongs here: the test, and what it says. Does not belong here: which unit a window has (`policy.units`), estimates per request, which
hold for sessions only as far as nothing is carried over.

For every request the requests after it in its session are counted, and their tokens in units of a mean request. Both are regressed on
the model that was chosen, within strata of what was known before: task type, complexity in fifths, place in the session, team. Errors are
clustered by session. With b_a the difference between a model and the commonest one,

    nothing is carried over    if every interval of b_a (90 %) lies within the margin: two one-sided tests (Schuirmann 1987),
    something is               if one lies beyond it and is no chance find among all of them (Bonferroni, 1 %),

and else the sessions are too few to tell. A window that cannot tell does not pass.
"""

from __future__ import annotations

import ibis
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.evidence_model import CarriedOver
from routing_pipeline.policy.units import SESSION, in_order, with_sessions
from routing_pipeline.window.scope import CLUSTERS

MARGIN_REQUESTS = 0.15
"""Later requests that a choice may add or save and still count as changing nothing, for each request."""
MARGIN_SIZE = 0.2
"""The same for later tokens, in mean requests; they vary more, and change with the answers' length."""
LEAST_SHARE = 0.05
"""Models with a smaller share of the requests are not judged one by one."""
EQUIVALENCE, CHANCE = 0.05, 0.01
MOST_REQUESTS = 400_000
"""More are not needed: groups of sessions are left out of the test."""
COMPLEXITY_PARTS = 5
MOST_TEAMS = 40
"""Up to so many teams, requests are compared within their team."""
Floats = NDArray[np.float64]


def carried_over(requests: ibis.Table, n: int) -> CarriedOver:
    """The test on final rows of a window that decides each request by itself; `n`: how many there are."""
    rows = _with_later(requests, n)
    band = ibis.ifelse(rows.complexity.isnull(), ibis.literal(-1, "int64"), (rows.complexity * COMPLEXITY_PARTS).floor().cast("int64"))
    place = ibis.ifelse(rows["at"] < 2, rows["at"], ibis.ifelse(rows["at"] < 4, ibis.literal(2, "int64"), ibis.literal(3, "int64")))
    rows = rows.mutate(band=band, place=place)
    keys = ["cluster", "task_type", "band", "place", "team", "routed_model"]
    sums = rows.group_by(keys).agg(
        n=rows.count().cast("float64"),
        requests=rows.later.cast("float64").sum(),
        size=rows.later_tokens.cast("float64").sum(),
        tokens=rows.tokens.cast("float64").sum(),
    )
    table = sums.to_pyarrow().sort_by([(key, "ascending") for key in keys])
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in ("cluster", "n", "requests", "size", "tokens")}
    stratum = _places(["|".join(map(str, known)) for known in zip(*(table[key].to_pylist() for key in keys[1:5]), strict=True)])
    models = table["routed_model"].to_pylist()
    arm = _places(models)
    share = np.bincount(arm, column["n"]) / column["n"].sum()
    judged = np.flatnonzero(share >= LEAST_SHARE)
    if len(judged) < 2:
        return CarriedOver(
            verdict="cannot tell", told="Too few models serve enough requests to tell whether the choice changes later requests."
        )
    of = np.isin(arm, judged)
    arm = _places(arm[of].tolist())
    commonest = int(np.bincount(arm, column["n"][of]).argmax())
    mean_tokens = column["tokens"].sum() / column["n"].sum()
    design = (column["cluster"][of].astype(np.int64), stratum[of], arm, column["n"][of], commonest)
    requests_changed = _differences(*design, column["requests"][of])
    size_changed = _differences(*design, column["size"][of] / max(mean_tokens, 1e-9)) if mean_tokens > 0 else requests_changed
    return _verdict(requests_changed, size_changed)


def _with_later(requests: ibis.Table, n: int) -> ibis.Table:
    kept = max(int(CLUSTERS * min(MOST_REQUESTS / max(n, 1), 1.0)), 1)
    final = requests.filter(requests.is_final, requests.session_id.notnull())
    # Spread over both halves of the groups.
    final = final.filter((final.cluster * 97) % CLUSTERS < kept) if kept < CLUSTERS else final
    zero = ibis.literal(0, "int64")
    sent = [final[name].fill_null(0) if name in final.columns else zero for name in ("prompt_tokens", "completion_tokens")]
    rows = with_sessions(final).mutate(tokens=sent[0] + sent[1])
    rows = rows.mutate(team=rows.team if _few_teams(rows) else ibis.null("string"))
    rows = rows.select("team", "cluster", "task_type", "complexity", "routed_model", "tokens", "started_s", "request_id", SESSION)
    whole = ibis.window(group_by=SESSION)
    rows = rows.mutate(at=ibis.row_number().over(in_order()), of=rows.count().over(whole), all_tokens=rows.tokens.sum().over(whole))
    so_far = rows.tokens.sum().over(ibis.window(group_by=SESSION, order_by="at", preceding=None, following=0))
    return rows.mutate(later=rows.of - rows["at"] - 1, later_tokens=rows.all_tokens - so_far)


def _few_teams(rows: ibis.Table) -> bool:
    return "team" in rows.columns and int(rows.team.nunique().execute()) <= MOST_TEAMS


def _places(names: list[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _differences(
    cluster: NDArray[np.int64], stratum: NDArray[np.int64], arm: NDArray[np.int64], n: Floats, commonest: int, total: Floats
) -> tuple[Floats, Floats]:
    """By model but the commonest: difference from it, and its clustered standard error; ordinary least squares within strata, from sums."""
    arms, strata = int(arm.max()) + 1, int(stratum.max()) + 1
    counts = np.bincount(stratum * arms + arm, n, minlength=strata * arms).reshape(strata, arms)
    sums = np.bincount(stratum * arms + arm, total, minlength=strata * arms).reshape(strata, arms)
    of = np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
    others = np.flatnonzero(np.arange(arms) != commonest)
    # Indicators of the models less their share in the stratum, for a request of each model: (stratum, arm, other).
    x = (np.eye(arms)[None] - (counts / of)[:, None, :])[..., others]
    gram = np.einsum("sa,sao,sap->op", counts, x, x) + 1e-9 * np.eye(len(others))
    inverse = np.linalg.inv(gram)
    difference = inverse @ np.einsum("sa,sao->o", sums, x)
    fitted = x @ difference
    level = (sums.sum(axis=1) - (counts * fitted).sum(axis=1)) / of[:, 0]
    left = total - n * (level[stratum] + fitted[stratum, arm])
    scores = np.stack([np.bincount(cluster, left * x[stratum, arm, place], minlength=CLUSTERS) for place in range(len(others))], axis=1)
    filled = int((np.bincount(cluster, n, minlength=CLUSTERS) > 0).sum())
    covariance = inverse @ (scores.T @ scores) @ inverse * filled / max(filled - 1, 1)
    return difference, np.sqrt(np.diag(covariance))


def _verdict(requests: tuple[Floats, Floats], size: tuple[Floats, Floats]) -> CarriedOver:
    both = ((requests, MARGIN_REQUESTS), (size, MARGIN_SIZE))
    within, beyond = True, False
    one_sided = float(ndtri(1 - EQUIVALENCE))
    by_chance = float(ndtri(1 - CHANCE / (4 * len(requests[0]))))
    for (difference, error), margin in both:
        within &= bool((np.abs(difference) + one_sided * error < margin).all())
        beyond |= bool(((np.abs(difference) > margin) & (np.abs(difference) > by_chance * error)).any())
    told = [_widest(*each) for each in (requests, size)]
    said = f"between {told[0].low:+.2f} and {told[0].high:+.2f} later requests for each"
    if within:
        verdict, words = (
            "nothing",
            f"The choice of a model for one request changes neither the number nor the size of the later ones ({said}).",
        )
    elif beyond:
        verdict, words = "something", f"The choice of a model for one request changes the number or the size of the later ones ({said})."
    else:
        verdict, words = "cannot tell", f"Whether the choice of a model for one request changes the later ones cannot be told yet ({said})."
    return CarriedOver(verdict=verdict, requests=told[0], size=told[1], told=words)


def _widest(difference: Floats, error: Floats) -> Estimate:
    """The model with the largest difference that its interval allows."""
    critical = float(ndtri(0.975))
    at = int((np.abs(difference) + critical * error).argmax())
    low, high = difference[at] - critical * error[at], difference[at] + critical * error[at]
    return Estimate(estimate=float(difference[at]), low=float(low), high=float(high))
