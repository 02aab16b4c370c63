"""Bodies of S3 objects through obstore, which takes a fifth of boto3's processor time for small ones (benchmarks/ingest_objects.py).

Belongs here: GETs with retries, whole or in parts. Does not belong here: listing, configuration, credentials, and saying why
a store refuses: boto3 does these (`objects`), and is asked again wherever this module cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

PART_BYTES: Final = 16 << 20
"""Larger objects come in parts of this size, so that what breaks off is asked for again from there; also what a thread holds."""
_TIMEOUTS = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "300s"}
_CREDENTIALS_LIVE = timedelta(minutes=5)
"""boto3 renews them when they are due; it is asked this often."""
_PATIENCE = 8
"""After so many more failures than successes boto3 reads alone: the store, a proxy or a certificate is beyond obstore."""

# obstore writes other keys in a way of its own: `//` is refused, `%` and `~` are escaped twice.
_PLAIN_KEY = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9_.=+,@:&$;!'() -]+(/(?!\.\.?(/|$))[A-Za-z0-9_.=+,@:&$;!'() -]+)*")


class Fetched(Enum):
    """How a fetch ended. UNCLEAR: nothing usable arrived; ask boto3, which can say why."""

    WHOLE = "whole"
    CHANGED = "changed"
    UNCLEAR = "unclear"


class Bodies:
    """One bucket, as the boto3 client is configured.

    Args:
        client: boto3's S3 client: where the endpoint and the region come from.
        bucket: Name of the bucket.
        credentials: botocore's, which renew themselves.
        attempts: How often one request is tried.
    """

    def __init__(self, client: Any, bucket: str, credentials: Any, attempts: int) -> None:
        from obstore.store import S3Store

        endpoint = str(client.meta.endpoint_url)
        is_aws = re.fullmatch(r"https://s3[.-][a-z0-9.-]*amazonaws\.com(\.cn)?", endpoint) is not None
        place: dict[str, Any] = {} if is_aws else {"endpoint": endpoint}
        options: Any = {**_TIMEOUTS, "allow_http": endpoint.startswith("http://")}
        retries: Any = {
            "max_retries": max(0, attempts - 1),
            "retry_timeout": timedelta(seconds=180),
            "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=10)},
        }
        self._failures = 0
        self._store = S3Store(
            bucket,
            **place,
            region=client.meta.region_name,
            # A dot in the name does not fit the certificate of a host per bucket.
            virtual_hosted_style_request=is_aws and "." not in bucket,
            client_options=options,
            retry_config=retries,
            credential_provider=_provider(credentials),
        )

    def fetch(self, key: str, etag: str, size_bytes: int, to: Callable[[Any], object]) -> Fetched:
        """Give the version with this ETag and size to `to`, part by part, in order; may be called from many threads."""
        from obstore.exceptions import BaseError, PreconditionError

        if self._failures > _PATIENCE or _PLAIN_KEY.fullmatch(key) is None:
            return Fetched.UNCLEAR
        try:
            is_whole = self._get(key, etag, size_bytes, to)
        except PreconditionError:
            return Fetched.CHANGED
        except (BaseError, FileNotFoundError, PermissionError, ValueError):
            self._failures += 1
            return Fetched.UNCLEAR
        self._failures = max(0, self._failures - 1)
        return Fetched.WHOLE if is_whole else Fetched.CHANGED

    def _get(self, key: str, etag: str, size_bytes: int, to: Callable[[Any], object]) -> bool:
        """False when the store holds another version than was asked for."""
        import obstore

        for start in range(0, size_bytes, PART_BYTES):
            options: Any = {"if_match": f'"{etag}"'}
            end = min(start + PART_BYTES, size_bytes)
            if size_bytes > PART_BYTES:
                options["range"] = (start, end)
            answer = obstore.get(self._store, key, options=options)
            meta = answer.meta
            if (meta["e_tag"] or "").strip('"') != etag or meta["size"] != size_bytes:
                return False
            body = answer.bytes()
            if len(body) != end - start:
                raise ValueError("a body of another length than was announced")
            to(body)
        return True


def _provider(credentials: Any) -> Any:
    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
        }

    return provide
