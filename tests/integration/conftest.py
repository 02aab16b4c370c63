"""The S3 server that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import s3_server


@pytest.fixture(scope="session")
def swift_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3-compatible store, one per test process; where it cannot be installed tests are skipped, except in CI."""
    try:
        with s3_server.running(tmp_path_factory.mktemp("swift")) as server:
            yield server.endpoint
    except s3_server.UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
