"""What a call costs: as logged, and at the list prices of its day.

Belongs here: joining tier and prices to rows, and tokens by the class that they are priced in. Does not belong here: the price list
(`catalog`), whether logged costs agree with it (`data_quality.prices`).
"""

from __future__ import annotations

from typing import Any

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.schema import DEFAULT_TIER, NO_COMPLETION, OWN_COST_ONLY
from routing_pipeline.window.kinds_of_call import kind_of

PriceKey = tuple[str, str | None, str | None, int]


def list_prices(keys: list[PriceKey], catalog: Catalog) -> ibis.Table:
    """Tier and unit prices of each distinct (model, provider, provider_model, day), as a small table to join.

    One row for each length of prompt from which the list has another price: prompts of more than `above_tokens` tokens and
    not more than `up_to_tokens`.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _PRICES.names}
    for model, provider, provider_model, day in keys:
        found = catalog.model(model, provider=provider, provider_model=provider_model, on_day=day)
        steps = found.prices or (None,)
        for step, following in zip(steps, (*steps[1:], None), strict=True):
            row = {
                "model": model,
                "price_provider": provider or "",
                "price_provider_model": provider_model or "",
                "day": day,
                "catalog_tier": found.tier,
                "above_tokens": -1 if step is None else step.above_tokens,
                "up_to_tokens": _NO_LIMIT if following is None else following.above_tokens,
                **{name: None if step is None else getattr(step, name) for name in _USD},
            }
            for name, value in row.items():
                columns[name].append(value)
    import pyarrow as pa

    return ibis.memtable(pa.table(columns, schema=_PRICES.to_pyarrow()), schema=_PRICES)


_NO_LIMIT = 2**62
_USD = (
    "input_usd",
    "output_usd",
    "cached_input_usd",
    "cache_write_usd",
    "reasoning_usd",
    "audio_input_usd",
    "audio_output_usd",
    "request_usd",
)
_PRICES = ibis.schema(
    {
        "model": "string",
        "price_provider": "string",
        "price_provider_model": "string",
        "day": "int64",
        "catalog_tier": "string",
        "above_tokens": "int64",
        "up_to_tokens": "int64",
        **dict.fromkeys(_USD, "float64"),
    }
)


def with_prices(rows: ibis.Table, prices: ibis.Table) -> ibis.Table:
    """Tier, cost at the list prices of the `day`, and cost: as logged, else at list prices. Nothing priced stays null, never 0.

    A call that no price list is about (schema.OWN_COST_ONLY) costs what the log says, else nothing. A class of tokens, or a service
    class, that the list does not price has no list price: its neighbour's would be a guess. `prices` as `prices_of` gives them.
    """
    # Step by step, each a column of its own: within one expression DuckDB works out the same part again for every place that it stands in.
    rows = _with_list_prices(rows, prices)
    rows = rows.mutate(price_kind=kind_of(rows))
    # The gateway's own cache costs nothing, nor does a tool; everything else that nobody priced does not become free.
    # Kinds of call that answer without tokens, and models whose answers cost nothing, need no count of them.
    rows = rows.mutate(
        price_is_free=rows.is_cache_hit.fill_null(False) | rows.price_kind.isin(OWN_COST_ONLY),
        price_no_answer=rows.price_kind.isin(NO_COMPLETION) | (rows.output_usd == 0).fill_null(False),
    )
    sent, received = token_classes(rows, rows.price_no_answer)
    rows = rows.mutate(**{f"priced_{name}": tokens for name, tokens in {**sent, **received}.items()})
    rows = rows.mutate(price_usd=_at_list_prices(rows))
    rows = rows.mutate(
        tier=rows.catalog_tier,
        logged_cost_usd=rows.cost_usd,
        list_cost_usd=ibis.ifelse(rows.price_is_free | (rows.status != "success"), ibis.null("float64"), rows.price_usd),
    )
    unlogged = ibis.ifelse(rows.price_is_free, ibis.literal(0.0), rows.list_cost_usd)
    return rows.mutate(cost_usd=ibis.coalesce(rows.logged_cost_usd, unlogged))


def prices_of(rows: ibis.Table, catalog: Catalog) -> ibis.Table:
    """`list_prices` of all that these rows name on their `day`; runs one small query now, for the distinct models."""
    keys = rows.select("model", "provider", "provider_model", "day").distinct().to_pyarrow().to_pylist()
    return list_prices(
        sorted(
            ((k["model"], k["provider"], k["provider_model"], k["day"]) for k in keys), key=lambda key: tuple(str(part) for part in key)
        ),
        catalog,
    )


def _with_list_prices(rows: ibis.Table, prices: ibis.Table) -> ibis.Table:
    """Rows with the columns of `list_prices` that apply to their model, day and length."""
    prices = prices.rename(price_model="model", price_day="day")
    length = rows.prompt_tokens.fill_null(0)
    return rows.left_join(
        prices,
        [
            rows.model == prices.price_model,
            rows.provider.fill_null("") == prices.price_provider,
            rows.provider_model.fill_null("") == prices.price_provider_model,
            rows.day == prices.price_day,
            length > prices.above_tokens,
            length <= prices.up_to_tokens,
        ],
    )


def _at_list_prices(rows: ibis.Table) -> ibis.expr.types.FloatingValue:
    """US dollars for the tokens of each row and for the request itself; null where the list does not price a class that it has."""

    def paid(name: str, usd: ibis.expr.types.FloatingValue) -> ibis.expr.types.FloatingValue:
        """What tokens of one class cost; nothing where there are none, whether or not the list prices the class."""
        tokens = rows[f"priced_{name}"]
        return ibis.ifelse(tokens == 0, ibis.literal(0.0), tokens * usd)

    cost = (
        rows.priced_uncached * rows.input_usd
        + paid("cached", rows.cached_input_usd)
        + paid("cache_write", rows.cache_write_usd)
        + paid("audio_prompt", rows.audio_input_usd)
        + (rows.priced_completion - rows.priced_reasoning) * rows.output_usd
        + paid("reasoning", rows.reasoning_usd)
        + paid("audio_completion", rows.audio_output_usd)
        + rows.request_usd
    )
    # The list has the prices of the default service class; flex, batch and priority cost something else.
    if "service_tier" not in rows.columns:
        return cost
    return ibis.ifelse(rows.service_tier.fill_null(DEFAULT_TIER) == DEFAULT_TIER, cost, ibis.null("float64"))


def token_classes(
    rows: ibis.Table, answers_free: ibis.expr.types.BooleanValue | None = None
) -> tuple[dict[str, ibis.expr.types.FloatingValue], dict[str, ibis.expr.types.FloatingValue]]:
    """Tokens by the class that they are priced in, as numbers: of the prompt, and of the completion.

    The parts of a prompt add up to prompt_tokens; `completion` holds `reasoning`, and with `audio_completion` adds up to
    completion_tokens. A part that the log makes larger than what holds it is cut. Where `answers_free`, a missing count of the
    completion is 0.
    """

    def tokens(name: str) -> ibis.expr.types.FloatingValue:
        return rows[name].fill_null(0).cast("float64")

    prompt, completion = rows.prompt_tokens.cast("float64"), rows.completion_tokens.cast("float64")
    if answers_free is not None:
        completion = ibis.ifelse(answers_free, completion.fill_null(0.0), completion)
    cached = ibis.least(tokens("cached_tokens"), prompt)
    written = ibis.least(tokens("cache_write_tokens"), prompt - cached)
    heard = ibis.least(tokens("audio_prompt_tokens"), prompt - cached - written)
    spoken = ibis.least(tokens("audio_completion_tokens"), completion)
    sent = {"uncached": prompt - cached - written - heard, "cached": cached, "cache_write": written, "audio_prompt": heard}
    text = completion - spoken
    return sent, {"completion": text, "reasoning": ibis.least(tokens("reasoning_tokens"), text), "audio_completion": spoken}
