"""Names, paths and models of calls: which kind each stands for, and what is left out because it spends nothing and answers nothing new."""

from __future__ import annotations

import duckdb
import pytest

from routing_pipeline.ingest.formats.kinds import is_nothing_by_name, is_nothing_by_path, kind_of_model, kind_of_name, kind_of_path
from routing_pipeline.schema import OPERATIONS


def told(expression: str, **given: str | bool | None) -> object:
    columns = ", ".join(f"${name} AS {name}" for name in given)
    return duckdb.execute(f"SELECT {expression} FROM (SELECT {columns})", given).fetchone()[0]  # type: ignore[index]  # noqa: S608


NAMES = {
    "chat": "acompletion completion text_completion atext_completion aresponses responses anthropic_messages agenerate_content_stream "
    "_aresponses_websocket chat generate_content Chat-Completion llm/v1/chat chat.completion GENERATION converse_stream chat.streaming_completions text.streaming_completions text.completions chat_completion_stream",
    "embedding": "aembedding embedding embeddings EMBEDDING llm/v1/embeddings embed_content create_embeddings",
    "rerank": "arerank rerank reranking",
    "image": "aimage_generation image_edit aimage_edit image image/v1/images/generations image_variation images/edits",
    "transcription": "atranscription transcription audio/v1/audio/transcriptions speech_to_text audio_translation",
    "speech": "aspeech speech tts audio/v1/audio/speech",
    "moderation": "amoderation moderation moderations",
    "batch": "acreate_batch create_batch batch aretrieve_batch llm/v1/batches",
    "tool": "call_mcp_tool execute_tool tool search avector_store_search tools/call",
    "other": "pass_through_endpoint _arealtime avideo_generation ocr never_heard_of_it other arun_thread",
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names.split()])
def test_a_name_stands_for_its_kind_awaited_or_not(kind: str, name: str) -> None:
    assert told(kind_of_name("name"), name=name) == kind
    if "retrieve" not in name:
        assert told(is_nothing_by_name("name"), name=name) is False


def test_every_kind_has_names_and_no_name_says_nothing() -> None:
    assert set(NAMES) == set(OPERATIONS)
    assert [told(kind_of_name("name"), name=name) for name in ("", None)] == [None, None]


@pytest.mark.parametrize(
    "name",
    [
        "aget_responses",
        "get_responses",
        "alist_input_items",
        "adelete_responses",
        "acancel_batch",
        "afile_list",
        "file_retrieve",
        "afile_content",
        "list_mcp_tools",
        "avideo_retrieve",
        "video_list",
        "avector_store_file_list",
        "aget_assistants",
        "alist_fine_tuning_jobs",
        "count_tokens",
        "tools/list",
    ],
)
@pytest.mark.parametrize("is_paid", [False, True])
def test_a_read_is_nothing_whatever_cost_it_repeats(name: str, is_paid: bool) -> None:
    assert told(is_nothing_by_name("name", "is_paid"), name=name, is_paid=is_paid) is True


@pytest.mark.parametrize("name", ["acreate_file", "create_thread", "avector_store_create", "health_check", "aretrieve_batch"])
def test_what_sets_up_or_reads_a_batch_is_nothing_unless_it_costs(name: str) -> None:
    assert [told(is_nothing_by_name("name", "is_paid"), name=name, is_paid=paid) for paid in (False, True)] == [True, False]


PATHS = {
    "chat": "/v1/chat/completions https://api.openai.com/v1/responses?x=1 /anthropic/v1/messages /v1/completions/ "
    "/v1beta/models/gemini-2.5-pro:streamGenerateContent /model/us.amazon.nova-pro-v1:0/converse /openai/deployments/d/chat/completions",
    "embedding": "/v1/embeddings /v1beta/models/e:embedContent /v2/embed",
    "rerank": "/cohere/v2/rerank",
    "image": "/v1/images/generations /v1/images/edits",
    "transcription": "/v1/audio/transcriptions /v1/audio/translations",
    "speech": "/v1/audio/speech",
    "moderation": "/v1/moderations",
    "batch": "/v1/batches /v1/messages/batches",
    "tool": "/mcp /mcp/github",
    "other": "/v1/realtime /v1/threads/t/messages /v1/videos",
}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in PATHS.items() for path in paths.split()])
def test_a_path_stands_for_its_kind(kind: str, path: str) -> None:
    assert told(kind_of_path("path"), path=path) == kind
    assert told(is_nothing_by_path("path", "method"), path=path, method="POST") is False


def test_a_path_of_ones_own_says_nothing() -> None:
    assert [told(kind_of_path("path"), path=path) for path in ("/support-bot", "", None)] == [None] * 3


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/input_items",
        "/v1/batches/b",
        "/v1/models",
        "/v1/models/gpt-4o",
        "/v1/files",
        "/health",
        "/v1/messages/count_tokens",
    ],
)
def test_what_is_read_by_its_path_is_nothing(path: str) -> None:
    assert told(is_nothing_by_path("path"), path=path) is True


def test_what_is_only_asked_for_by_its_method_is_nothing_but_for_a_conversation_that_opens_so() -> None:
    paths = ("/v1/batches", "/v1/realtime", "/support-bot")
    assert [told(is_nothing_by_path("path", "method"), path=path, method="GET") for path in paths] == [True, False, True]


MODELS = {
    "embedding": "text-embedding-3-small openai/text-embedding-ada-002 cohere.embed-english-v3 voyage-3 BAAI/bge-m3 gemini-embedding-001 "
    "embeddinggemma:300m textembedding-gecko@003 sentence-transformers/all-mpnet-base-v2 jina-clip-v2",
    "other": "veo-3.0-generate-001 sora-2",
    "rerank": "cohere/rerank-v3.5 bge-reranker-base",
    "transcription": "whisper-1 gpt-4o-mini-transcribe groq/whisper-large-v3",
    "speech": "tts-1-hd gpt-4o-mini-tts gemini-2.5-flash-preview-tts",
    "image": "dall-e-3 gpt-image-1 imagen-4 black-forest-labs/flux-1.1 stability.stable-diffusion-xl",
    "moderation": "omni-moderation-latest meta-llama/llama-guard-3-8b",
}


@pytest.mark.parametrize(("kind", "model"), [(kind, model) for kind, models in MODELS.items() for model in models.split()])
def test_a_model_may_give_its_kind_away(kind: str, model: str) -> None:
    assert told(kind_of_model("model"), model=model) == kind


@pytest.mark.parametrize(
    "model", ["gpt-4o", "claude-sonnet-4-5", "o3", "gpt-4o-audio-preview", "embedded-systems-coder", "imagine-7b", None]
)
def test_other_models_give_nothing_away(model: str | None) -> None:
    assert told(kind_of_model("model"), model=model) is None
