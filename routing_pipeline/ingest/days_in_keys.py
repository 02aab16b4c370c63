"""Which days an object's key names, as gateways and loggers write them: 2026-11-24, 2026/11/24, year=2026/month=11/day=24.

Belongs here: the expression, for whoever picks objects by day before or without reading them. Does not belong here: days of rows, which
the lake knows.
"""

from __future__ import annotations

_DAY = r"(\d{4})[-/](?:month=|mm=|m=)?(\d{2})[-/](?:day=|dd=|d=)?(\d{2})"

DAYS_IN_KEY = rf"list_transform(regexp_extract_all(object, '{_DAY}'), lambda found: regexp_replace(found, '{_DAY}', '\1-\2-\3'))"
"""SQL over a column `object`: a list of days as text, empty where the key names none."""
