"""Which work a call belongs to, as its sender names it: feature, workflow, version of the prompt, and tags without a meaning of their own.

Belongs here: the names of these labels, and which tags say none of them. Does not belong here: where a format keeps them.
"""

from __future__ import annotations

WORK = ("feature", "workflow", "prompt_version")
"""Columns of schema.REQUEST_LOG that logs carry under their own names, as metadata, attributes, headers or tags `name:value`."""
READ_APART = (
    *("task_type", "complexity", "team", "rule", "routing_rule_id", "quality_score", "user_rating", "propensity", "queue_depth"),
    *("session_id", *WORK),
)
"""Tags that begin with one of these and a colon say a column."""
MOST_TAGS = 16
_OTHERS = f"^((User-Agent|{'|'.join(READ_APART)}):|default$|litellm-internal-|$)"


def plain_tags(tags: str) -> str:
    """Of a list of tags those that say no column and that no gateway added, in the order of the alphabet; null where there are none."""
    plain = f"list_filter({tags}, lambda tag: NOT regexp_matches(tag, '{_OTHERS}'))"
    return f"CASE WHEN len({tags}) > 0 THEN nullif(array_to_string(list_sort({plain})[:{MOST_TAGS}], ','), '') END"


def json_list_of(given: str) -> str:
    """Tags in a field that holds a JSON list as text."""
    return f"json_extract_string(CASE WHEN json_valid({given}) THEN {given} END, '$[*]')"


def tags_of(given: str) -> str:
    """Tags as a column of ours holds them, commas between them, or as a JSON list of them."""
    return f"CASE WHEN starts_with({given}, '[') THEN {plain_tags(json_list_of(given))} ELSE {given} END"


def named_version(name: str, version: str) -> str:
    """A prompt with its version, as in `summary@3`; either may be missing."""
    return f"nullif(concat_ws('@', nullif({name}, ''), nullif({version}, '')), '')"
