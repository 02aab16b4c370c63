"""What models can, by the names that gateways log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.feasibility import capabilities
from routing_pipeline.feasibility.capabilities import Capabilities, CapabilityList
from routing_pipeline.parameters import Parameters, read_parameters

BUNDLED = CapabilityList({})


def test_another_list_is_other_code() -> None:
    assert hashlib.md5(capabilities.BUNDLED.read_bytes(), usedforsecurity=False).hexdigest() == capabilities.BUNDLED_MD5


@pytest.mark.parametrize(
    ("name", "provider", "provider_model"),
    [
        ("gpt-4o-mini", None, None),
        ("fast", "openai", "gpt-4o-mini"),
        ("fast", "azure", "azure/gpt-4o-mini"),
        ("openai/gpt-4o-mini", None, None),
        ("fast", "openai", "gpt-4o-mini-2024-07-18"),
    ],
)
def test_a_model_is_found_under_the_names_that_prices_know(name: str, provider: str | None, provider_model: str | None) -> None:
    found = BUNDLED.of(name, provider=provider, provider_model=provider_model)
    assert (found.image, found.audio, found.tools, found.context_tokens) == (True, False, True, 128_000)


def test_names_of_bedrock_lose_region_maker_and_revision() -> None:
    assert BUNDLED.of("x", provider="aws", provider_model="us.anthropic.claude-3-haiku-20240307-v1:0").context_tokens == 200_000


def test_of_an_unknown_model_nothing_is_said() -> None:
    assert BUNDLED.of("our-own-weights") == Capabilities()


def test_the_user_knows_better() -> None:
    asked = Parameters.model_validate({"models": {"gpt-4o-mini": {"image": False, "schema": False, "context_tokens": 8_000}}})
    found = CapabilityList(asked.models).of("gpt-4o-mini")
    assert (found.image, found.tools, found.schema, found.context_tokens) == (False, True, False, 8_000)
    assert Parameters.model_validate(asked.model_dump()) == asked
    assert Parameters.model_validate_json(asked.model_dump_json()) == asked


def test_resellers_that_disagree_are_believed_where_they_deny(tmp_path: Path) -> None:
    listed = CapabilityList({}, api(tmp_path, a={"m": {"tool_call": True, "limit": {"context": 10}}}, b={"m": {"tool_call": False}}))
    assert listed.of("m") == Capabilities(tools=False, context_tokens=10)
    assert listed.of("m", provider="a").tools is True


def api(folder: Path, **providers: object) -> Path:
    path = folder / "api.json"
    path.write_text(json.dumps({name: {"id": name, "models": models} for name, models in providers.items()}))
    return path


def test_the_list_of_models_dev_takes_the_place_of_ours(tmp_path: Path) -> None:
    said = {"tool_call": True, "modalities": {"input": ["text", "image"]}, "limit": {"context": 1_000, "output": 100}}
    listed = CapabilityList({}, api(tmp_path, acme={"big": said}))
    assert listed.of("big", provider="acme") == Capabilities(image=True, audio=False, tools=True, context_tokens=1_000, output_tokens=100)
    assert listed.of("gpt-4o-mini") == Capabilities()


def test_what_is_no_such_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text("[1]")
    with pytest.raises(UnusableInputError, match=r"not the api\.json of models\.dev"):
        CapabilityList({}, path)


def test_another_content_of_the_list_is_another_question(tmp_path: Path) -> None:
    path = api(tmp_path, a={})
    config = tmp_path / "routing.toml"
    config.write_text(f'capabilities = "{path}"\n')
    before = read_parameters(config)
    assert before == read_parameters(config)
    api(tmp_path, b={})
    assert before != read_parameters(config)
    with pytest.raises(UnusableInputError, match=r"capabilities: No such file"):
        read_parameters(None, capabilities="nowhere.json")
