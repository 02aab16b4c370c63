"""The servers and the browser that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import browser
import postgres_server
import pytest
import receiver as receivers
import s3_server
from playwright.sync_api import Browser
from postgres_server import PostgresServer
from receiver import Receiver


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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser; where there is none the tests that need it are skipped."""
    try:
        with browser.running() as started:
            yield started
    except browser.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres, one per test process; where there is none tests are skipped, except in CI."""
    try:
        with postgres_server.running() as server:
            yield server
    except postgres_server.UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where notifications arrive."""
    with receivers.running() as listening:
        yield listening
