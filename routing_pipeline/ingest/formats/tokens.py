"""Token counts by every name that providers and tools give them, and whether a part of them lies within its whole or beside it.

Belongs here: names of counts that mean the same, and telling by the total what a count includes. Does not belong here: where
a format keeps its counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from routing_pipeline.ingest.formats.log_format import Optional, json_list, where

CACHE_READS = (
    *("cached_tokens", "cache_read_input_tokens", "cache_read_tokens", "cache_read", "input_cached_tokens", "input_cache_read"),
    *("cached_input_tokens", "cachedInputTokens", "prompt_cache_hit_tokens", "cached_prompt_tokens", "cached_prompt_text_tokens"),
    *(
        "cachedContentTokenCount",
        "cached_content_token_count",
        "cached_content_tokens",
        "cacheReadInputTokens",
        "cacheReadInputTokenCount",
        "cacheReadTokens",
    ),
)
CACHE_WRITES = (
    *("cache_creation_input_tokens", "cache_write_input_tokens", "cache_creation_tokens", "cache_write_tokens", "cache_creation"),
    *("cache_write", "input_cache_creation", "input_cache_write", "cacheCreationInputTokens", "cacheWriteInputTokens"),
    *("cacheWriteInputTokenCount", "cacheWriteTokens"),
)
"""DeepSeek's `prompt_cache_miss_tokens` are none: it charges no writes, and counts by that name what it did not find."""
REASONING = (
    *("reasoning_tokens", "output_reasoning_tokens", "reasoningTokens", "thoughtsTokenCount", "thoughts_token_count", "thinking_tokens"),
    *("output_reasoning", "reasoning", "thoughts_tokens"),
)

_OF_SPANS = ("prompt_details", "details", "input_tokens", "prompt_tokens_details", "input_tokens_details", "prompt_token_details")
SPAN_READS = (
    '"cache_read.input_tokens"',
    *(
        f'"{place}.{name}"'
        for place in _OF_SPANS
        for name in ("cache_read", "cache_read_tokens", "cached", "cached_tokens", "cached_read_tokens", "cached_content_tokens")
    ),
)
SPAN_WRITES = (
    *('"cache_creation.input_tokens"', '"cache_write.input_tokens"'),
    *(
        f'"{place}.{name}"'
        for place in _OF_SPANS
        for name in ("cache_write", "cache_write_tokens", "cache_creation_tokens", "cached_write_tokens", "cache_creation_input_tokens")
    ),
)
SPAN_REASONING = (
    *('"reasoning.output_tokens"', '"output_tokens.reasoning"', '"completion_details.reasoning"', '"details.reasoning_tokens"'),
    *('"completion_tokens_details.reasoning_tokens"', '"output_tokens_details.reasoning_tokens"', '"details.thoughts_tokens"'),
)
"""Names of attributes of spans behind `gen_ai.usage.` and `llm.token_count.`, as tools keep them that take spans in: one name each, dots and all."""


_ANSWERED = {
    "cached_tokens": (
        *("usage.prompt_tokens_details.cached_tokens", "usage.input_tokens_details.cached_tokens", "usage.cache_read_input_tokens"),
        *("usage.prompt_cache_hit_tokens", "usage.cacheReadInputTokens", "usageMetadata.cachedContentTokenCount"),
    ),
    "cache_write_tokens": (
        *("usage.cache_creation_input_tokens", "usage.cacheWriteInputTokens", "usage.cache_write_input_tokens"),
        *("usage.prompt_tokens_details.cache_creation_tokens", "usage.prompt_tokens_details.cache_write_tokens"),
    ),
    "audio_prompt_tokens": ("usage.prompt_tokens_details.audio_tokens", "usage.input_tokens_details.audio_tokens"),
    "reasoning_tokens": (
        *("usage.completion_tokens_details.reasoning_tokens", "usage.output_tokens_details.reasoning_tokens"),
        "usageMetadata.thoughtsTokenCount",
    ),
    "audio_completion_tokens": ("usage.completion_tokens_details.audio_tokens", "usage.output_tokens_details.audio_tokens"),
}


def parts_of_answer(answer: str) -> dict[str, str]:
    """Numbers of tokens by column, from the body of a provider's answer (JSON text) that a gateway keeps beside the log."""
    return {column: most_within(answer, paths) for column, paths in _ANSWERED.items()}


def most_within(given: str, paths: Sequence[str]) -> str:
    """`most_of` what stands under these paths of a field that holds JSON as text."""
    return where("used", json_list(given, paths), most_of([f"used[{place}]" for place in range(1, len(paths) + 1)]))


def most_of(given: Sequence[str]) -> str:
    """Of counts that mean the same (as text) the largest, as a number: some tools write 0 under the names that they do not fill."""
    return f"greatest({', '.join(map(number, given))})"


def count_of_any(given: Sequence[str]) -> Optional:
    """A whole number from 0 under any of several names that mean the same; anything else is null."""
    return Optional(f"coalesce({', '.join(given)})", f"TRY_CAST({most_of(given)} AS UBIGINT)")


def number(given: str) -> str:
    """A count as a number."""
    return f"TRY_CAST({given} AS DOUBLE)"


def sum_of(counts: Sequence[str]) -> str:
    """The sum of counts; those that are missing count nothing."""
    return "(" + " + ".join(f"coalesce({count}, 0)" for count in counts or ("0",)) + ")"


def wholes(
    *,
    sent: str,
    received: str,
    total: str,
    of_sent: Sequence[str],
    of_received: Sequence[str] = (),
    otherwise: Sequence[str] | None = None,
    is_apart: bool = False,
) -> tuple[str, str]:
    """Tokens sent and received with all their parts, each counted once: SQL of two numbers, null where the whole was not counted.

    A part may lie within the count beside it, or beside it; providers, gateways and instrumentations differ. The total tells:
    of all ways to add up to it the first counts, from no part beside to every one. Where it does not tell, a part that does not
    fit into its whole is beside it.

    Args:
        sent: SQL of the number of tokens of the prompt, as logged.
        received: The same of the completion.
        total: The same of both, null where it is not logged.
        of_sent: Numbers that are parts of the prompt.
        of_received: Numbers that are parts of the completion.
        otherwise: Parts of the prompt that are beside it where they do not fit into it together; all of them unless it is said.
        is_apart: Parts are beside their wholes unless the total says otherwise, and count without one.
    """
    counts = (sent, received, total, *of_sent, *of_received)
    names = [f"n[{place}]" for place in range(1, len(counts) + 1)]
    parts = (names[3 : 3 + len(of_sent)], names[3 + len(of_sent) :])
    beside = [names[3 + list(of_sent).index(part)] for part in (of_sent if otherwise is None else otherwise)]
    values = [f"coalesce({name}, 0)" for name in names[:2]]
    ways = [(a, b) for a in _subsets(parts[0]) for b in _subsets(parts[1])]
    told = "".join(
        f"\nWHEN {names[2]} = {sum_of(names[:2])} + {sum_of(a)} + {sum_of(b)} AND {_fits(_without(parts[0], a), values[0])}"
        f" AND {_fits(_without(parts[1], b), values[1])} THEN [{sum_of(a)}, {sum_of(b)}]"
        for a, b in (reversed(ways) if is_apart else ways)
    )
    if is_apart:
        untold = [sum_of(each) for each in parts]
    else:
        untold = [_least(each, last, whole) for each, last, whole in zip(parts, (beside, parts[1]), values, strict=True)]
    added = where("n", f"[{', '.join(counts)}]", f"CASE {told} ELSE [{', '.join(untold)}] END")
    if is_apart:
        return f"coalesce({sent} + {added}[1], nullif({added}[1], 0))", f"coalesce({received} + {added}[2], nullif({added}[2], 0))"
    return f"({sent} + {added}[1])", f"({received} + {added}[2])"


def _fits(parts: Sequence[str], whole: str) -> str:
    return f"{sum_of(parts)} <= {whole}" if parts else "true"


def _least(parts: Sequence[str], last: Sequence[str], whole: str) -> str:
    """What stands beside a whole where no total tells: nothing if every part fits into it, else the parts of `last` if the rest does, else all."""
    if not parts:
        return "0"
    rest = _without(parts, last)
    some = f" WHEN {_fits(rest, whole)} THEN {sum_of(last)}" if rest else ""
    return f"CASE WHEN {_fits(parts, whole)} THEN 0{some} ELSE {sum_of(parts)} END"


def _subsets(parts: Sequence[str]) -> list[tuple[str, ...]]:
    return [chosen for size in range(len(parts) + 1) for chosen in combinations(parts, size)]


def _without(parts: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if part not in taken)
