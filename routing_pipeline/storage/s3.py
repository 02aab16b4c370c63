"""The client of an S3-compatible bucket: credentials, retries, what is asked of it, and what a refusal means.

Belongs here: making the client from the AWS variables, the few requests that everybody makes of a bucket, and turning what
boto3 raises into one line that says what to do and holds no secret. Does not belong here: what is read or written (`bucket`,
`ingest.objects`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from routing_pipeline.errors import PipelineError, ServiceUnavailableError, UnusableInputError

REQUEST_ATTEMPTS = 5
"""How often one request is tried when the store is throttling or down; AWS_MAX_ATTEMPTS says otherwise."""
NO_SUCH_KEY = frozenset({"404", "NoSuchKey", "NotFound"})
"""Not NoSuchBucket, which is 404 as well."""


class Bucket:
    """One bucket, by its keys; in messages it goes by `uri`, which holds no secret.

    Raises, in every method:
        UnusableInputError: no such bucket, or these credentials may not do this.
        ServiceUnavailableError: the store does not answer.

    Args:
        name: of the bucket.
        uri: what messages call it, mostly with a prefix.
        client: boto3's; the process's own one where none is given.
    """

    def __init__(self, name: str, uri: str, client: Any = None) -> None:
        self.name, self.uri = name, uri
        self._client = client

    @property
    def client(self) -> Any:
        """boto3's, for requests of another kind; make them within `explained`."""
        return self._client or _shared_client()

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The body of an object and its ETag as it was sent; None when there is none."""
        answer = self._if_there("get_object", key)
        if answer is None:
            return None
        with self.explained("read", "s3:GetObject"):
            return answer["Body"].read(), answer["ETag"]

    def head(self, key: str) -> dict[str, Any] | None:
        """What the bucket says of an object; None when there is none."""
        return self._if_there("head_object", key)

    def _if_there(self, request: str, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        with self.explained("read", "s3:GetObject"):
            try:
                answer: dict[str, Any] = getattr(self.client, request)(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in NO_SUCH_KEY:
                    return None
                raise
        return answer

    def put(self, key: str, body: bytes) -> None:
        """Write an object, which is whole or not at all."""
        with self.explained("write", "s3:PutObject"):
            self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        """Delete an object that may be there."""
        with self.explained("delete", "s3:DeleteObject"):
            self.client.delete_object(Bucket=self.name, Key=key)

    def upload(self, path: Path, key: str) -> None:
        """A file of any size."""
        with self.explained("write", "s3:PutObject"):
            self.client.upload_file(str(path), self.name, key)

    def download(self, key: str, path: Path) -> None:
        """An object of any size."""
        with self.explained("read", "s3:GetObject"):
            self.client.download_file(self.name, key, str(path))

    def pages(self, prefix: str) -> Iterator[list[dict[str, Any]]]:
        """All pages of the listing of a prefix, one after another, as boto3 gives them."""
        with self.explained("list", "s3:ListBucket"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                yield page.get("Contents", [])

    def check(self, prefix: str) -> None:
        """Ask for one name."""
        with self.explained("list", "s3:ListBucket"):
            self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=1)

    @contextmanager
    def explained(self, doing: str, right: str) -> Iterator[None]:
        """Turn what boto3 raises into one line that says what to do; `right` is the permission that `doing` needs."""
        from boto3.exceptions import RetriesExceededError, S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError, S3UploadFailedError, RetriesExceededError) as error:
            # What boto3's transfers wrap says more than the wrapping.
            wrapped = isinstance(error, (S3UploadFailedError, RetriesExceededError))
            cause = (error.__cause__ or error.__context__) if wrapped else error
            if isinstance(cause, ClientError):
                raise _explain_refusal(self.uri, self.name, doing, right, cause) from cause
            if isinstance(cause, BotoCoreError):
                raise _explain_failure(self.uri, cause) from cause
            raise ServiceUnavailableError(f"{self.uri}: the object store broke off; run again later") from error


def code_of(error: Any) -> str:
    """What S3 calls the refusal that boto3 raised."""
    return str(error.response.get("Error", {}).get("Code", ""))


@lru_cache(maxsize=1)
def _client_of(process: int, *settings: str | None) -> Any:
    del process, settings
    return s3_client()[0]


def _shared_client() -> Any:
    """One client per process, because connections do not survive a fork; another one for another store."""
    return _client_of(os.getpid(), *(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID")))


def request_attempts() -> int:
    """How often one request is tried, from AWS_MAX_ATTEMPTS."""
    return int(os.environ.get("AWS_MAX_ATTEMPTS", str(REQUEST_ATTEMPTS)))


def s3_client() -> tuple[Any, Any]:
    """boto3's client and its credentials, None where it finds none."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    retries: Any = {
        "total_max_attempts": request_attempts(),
        "mode": os.environ.get("AWS_RETRY_MODE", "standard"),
    }
    settings = Config(
        retries=retries,
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=32,
        # Servers other than AWS rarely have a name per bucket.
        s3={"addressing_style": "path"} if endpoint else {},
    )
    try:
        session = boto3.session.Session()
        client = session.client("s3", endpoint_url=endpoint, region_name=region or session.region_name or "us-east-1", config=settings)
        return client, session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise _explain_failure("s3", error) from error


_MISSING = frozenset({"NoSuchBucket", "404", "NoSuchKey", "NotFound"})
_WRONG_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"}
)
_BUSY = frozenset(
    {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "TooManyRequests", "RequestLimitExceeded"}
)


def _explain_refusal(uri: str, bucket: str, doing: str, right: str, error: Any) -> PipelineError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _WRONG_CREDENTIALS:
        return UnusableInputError(
            f"{uri}: the credentials were refused ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE"
        )
    if code in _MISSING:
        return UnusableInputError(f"{uri}: there is no bucket {bucket} at this endpoint; check the name and AWS_ENDPOINT_URL")
    if code == "InvalidBucketName":
        return UnusableInputError(f"{uri}: {bucket} is no valid bucket name")
    if code in _BUSY or status >= 500 or status == 429:
        return ServiceUnavailableError(f"{uri}: the object store is overloaded or down ({code or status}); run again later")
    if status in {401, 403} or code == "AccessDenied":
        return UnusableInputError(f"{uri}: no permission to {doing} here; these credentials need {right} on bucket {bucket}")
    return UnusableInputError(f"{uri}: the object store refused to {doing} ({code or status})")


def _explain_failure(uri: str, error: Exception) -> PipelineError:
    from botocore.exceptions import (
        ConnectionError as BotoConnectionError,
        CredentialRetrievalError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    if isinstance(error, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return UnusableInputError(f"{uri}: no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if isinstance(error, ParamValidationError):
        return UnusableInputError(f"{uri}: no valid bucket name or key; give s3://bucket/prefix")
    if isinstance(error, (BotoConnectionError, HTTPClientError)):
        return ServiceUnavailableError(
            f"{uri}: the endpoint does not answer ({type(error).__name__}); check AWS_ENDPOINT_URL and the network"
        )
    return UnusableInputError(f"{uri}: the S3 settings cannot be used ({type(error).__name__}); check the AWS variables")
