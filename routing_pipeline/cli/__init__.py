"""The command line: `main` is what `routing-pipeline` starts."""

from __future__ import annotations

from routing_pipeline.cli.main import main

__all__ = ["main"]
