"""Runs in an interpreter that has LiteLLM: loads an export, routes requests, and prints what was decided and logged.

    python litellm_router.py FOLDER < requests.json > told.json

Belongs here: LiteLLM's own Router on mocked answers. Does not belong here: anything of ours, which that interpreter need not have.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


async def route(folder: Path, asked: list[dict[str, Any]], failing: str) -> list[dict[str, Any]]:
    """One call after the other, each with the log record that LiteLLM's S3 logger would write."""
    import litellm
    import yaml
    from litellm.integrations.custom_logger import CustomLogger

    sys.path.insert(0, str(folder))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for entry in config["model_list"]:
        params = entry["litellm_params"]
        settings = params.get("complexity_router_config")
        if settings:
            module, _, name = settings["classifier_plugin"].rpartition(".")
            settings["classifier_plugin"] = getattr(importlib.import_module(module), name)
        else:
            is_failing = entry["model_name"].startswith("rules/") and entry["model_name"].endswith(f"/{failing}")
            params.update(api_key="sk-none", mock_response="litellm.InternalServerError" if is_failing else params["model"])
    logged: list[Any] = []

    class Logger(CustomLogger):
        async def async_log_success_event(self, kwargs: Any, **_: Any) -> None:
            logged.append(json.loads(json.dumps(kwargs["standard_logging_object"], default=str)))

    litellm.callbacks = [Logger()]
    router = litellm.Router(model_list=config["model_list"], **config.get("router_settings", {}), num_retries=0, cooldown_time=0)
    name = next(entry["model_name"] for entry in config["model_list"] if "complexity_router_config" in entry["litellm_params"])
    told = []
    for request in asked:
        metadata = {"requester_metadata": dict(request["metadata"])}
        answer = await router.acompletion(model=name, messages=request["messages"], metadata=metadata)
        told.append({"answered_by": answer.choices[0].message.content, "metadata": metadata["requester_metadata"]})
    for _ in range(100):
        if len(logged) == len(asked):
            break
        await asyncio.sleep(0.1)
    return [{"told": told, "logged": logged}]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    sys.stdout.write(json.dumps(asyncio.run(route(Path(sys.argv[1]), given["asked"], given["failing"]))[0]))
