"""Which kind of call a record is of: by the name that a tool gives it, by its path, its body, the name of the model.

Belongs here: names, paths, bodies and models as SQL that gives one of schema.OPERATIONS, or null where they say nothing; and what spends
nothing and answers nothing new, so that it is left out: reads, listings, deletions, uploads, health checks. Does not belong here:
where a format keeps them.

A call type that is there and unknown is `other`, never chat. A path may be anybody's own and a model may be called anything:
where these are unknown they say nothing.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.log_format import json_texts

_BATCH_READS = ("retrieve_batch", "batch_retrieve")
_NAMES: dict[str, tuple[str, ...]] = {
    "chat": (
        *("completions?", "text_completions?", "chat", "chat([.]|_)completions?", "(create_)?responses?(_stream)?", "responses_websocket"),
        *("(chat|text)[.]streaming_completions", "text[.]completions", "(chat|text)_completions?_stream"),
        *("(anthropic_)?messages", "(stream_?)?generate_?content(_stream)?", "converse(_?stream)?", "create_interaction", "generation"),
        *("text_generation", "generate(_text)?", "llm", "prompt", "llm/v1/(chat|completions|responses|messages)"),
    ),
    "embedding": (*("(create_|text_|multimodal_)?embeddings?", "embed(_many)?", "(batch_?)?embed_?contents?", "llm/v1/embeddings"),),
    "rerank": ("rerank(er|ing)?", "llm/v1/rerank"),
    "image": ("(image/v1/)?images?((_|/)(generations?|edits?|variations?))?", "(generate|create)_images?"),
    "transcription": (
        *("(create_)?transcriptions?", "transcribe", "translation", "speech_to_text", "stt"),
        *("audio_(transcription|translation)s?", "audio/v1/audio/(transcriptions|translations)"),
    ),
    "speech": ("((create|generate)_)?speech(_generation)?", "tts", "text_to_speech", "audio_speech", "audio/v1/audio/speech"),
    "moderation": ("(create_)?moderations?", "moderate"),
    "batch": ("(create_|message_)?batch", "batches", "batch_generate_content", "llm/v1/batches", *_BATCH_READS),
    "tool": (
        *("tools?", "tool_?call", "call_(mcp_)?tool", "mcp(_tool_call)?", "execute_tool", "tools/call", "(web_|vector_store_)?search"),
        *("run_code", "code_interpreter_tool"),
    ),
}
"""Patterns of the names that tools give to kinds of call; `_` stands for a hyphen and a blank as well."""
_READS = (
    *("(get|list|retrieve|delete|cancel|poll|download)_.*", ".*_(list|delete|retrieve|status)", "(file|video|container|batch)_content"),
    *("vector_store_file_content", "video_get_character", "count_tokens", "token_count(er)?", "(de)?tokenize", "models?", "model_list"),
    *("initialize", "ping", "notifications/.*", "(tools|prompts|resources)/(list|get|read|templates/list)"),
)
_SET_UP = (
    *("create_(file|assistants?|thread|container|sandbox|skill)", "(upload_file|file_upload)", "add_message", "upload_container_file"),
    *("vector_store_create", "vector_store_file_(create|update)", "create_fine_tuning_job", "video_create_character"),
    *("create_realtime_(client_secret|transcription_session|translation_client_secret)", "health(_check)?", "llm/v1/(files|assistants)"),
)
"""What sets something up: it spends nothing unless the log names what it cost."""


def kind_of_name(given: str) -> str:
    """The kind that a name stands for, in any case, awaited (LiteLLM's `a` before it) or not; `other` for one that nobody knows."""
    cases = "".join(f"\nWHEN {_is_named(given, names)} THEN '{kind}'" for kind, names in _NAMES.items())
    return f"CASE WHEN coalesce({given}, '') = '' THEN NULL {cases} ELSE 'other' END"


def is_nothing_by_name(given: str, is_paid: str = "false") -> str:
    """Whether a call of that name spends nothing and answers nothing new.

    Args:
        given: SQL for the name.
        is_paid: SQL: the record carries a cost or tokens. A read carries those of what it reads; a batch is paid when it is read.
    """
    is_unpaid = f"NOT coalesce({is_paid}, false)"
    free = _is_named(given, (*_BATCH_READS, *_SET_UP))
    return f"coalesce({free} AND {is_unpaid} OR NOT {_is_named(given, _BATCH_READS)} AND {_is_named(given, _READS)}, false)"


def is_named(given: str, *names: str) -> str:
    """Whether a call type is one of these, awaited or not."""
    return f"coalesce({_is_named(given, names)}, false)"


def is_batch_read(given: str) -> str:
    """Whether a call type is that of reading a batch: where the batch is done, its whole cost comes with it, each time it is read."""
    return is_named(given, *_BATCH_READS)


def _is_named(given: str, names: tuple[str, ...]) -> str:
    spelt = "|".join(names).replace("_", "[-_ ]")
    # One pattern and not a list of names: the engine sets memory aside for each constant, and joins long lists.
    return f"regexp_full_match({given}, '(?i) *_?(?:a_?)?(?:{spelt}) *')"


_PATHS: dict[str, str] = {
    "other": r"/responses/compact$|/threads(/|$)|/assistants(/|$)|/(realtime|live|videos?|fine_tuning|ocr)(/|$)",
    "batch": r"/batches$|/batch(/jobs)?$|:batchgeneratecontent$",
    "chat": r"(^|/)(chat/completions|completions|responses|messages|converse|converse-stream|complete)$|:(stream)?generatecontent$"
    r"|/api/(chat|generate)$|/v[0-9]+/chat$",
    "embedding": r"(^|/)(embeddings?|embed|multimodalembeddings)$|:(batch)?embedcontents?$",
    "rerank": r"(^|/)rerank$",
    "image": r"(^|/)images?/(generations?|edits?|variations)$|:generateimages$",
    "transcription": r"(^|/)audio/(transcriptions|translations)$|/speech-to-text(/|$)",
    "speech": r"(^|/)audio/speech$|/text-to-speech(/|$)",
    "moderation": r"(^|/)moderations$",
    "tool": r"(^|/)mcp(/|$)",
}
# What is read, counted or put down stands below what is made, or under a name of its own.
_NOTHING = (
    r"/(count_tokens|tokenize|detokenize)$|:counttokens$|/(health|healthz|livez|readyz|liveness|liveliness|readiness|ping)(/|$)"
    r"|/(files|uploads|vector_stores|containers)(/[^/]+(/(content|files|parts|complete|cancel)(/[^/]+)?)?)?$"
    r"|/batches/.|/chat/completions/.|/v[0-9][a-z0-9]*/models(/[^/:]+)?$|/responses/(.{8,}|[^c].*)$"
)


def _path(given: str) -> str:
    """A path without host, query and a slash at its end."""
    return f"regexp_extract(lower({given}), '^(?:[a-z]+://[^/]*)?([^?#]*?)/*(?:[?#].*)?$', 1)"


def kind_of_path(given: str) -> str:
    """The kind that the path of a request stands for, with or without host and query; null for any other path."""
    cases = "".join(f"\nWHEN regexp_matches({_path(given)}, '{pattern}') THEN '{kind}'" for kind, pattern in _PATHS.items())
    return f"CASE WHEN coalesce({given}, '') = '' THEN NULL {cases} END"


def is_nothing_by_path(given: str, method: str = "NULL::VARCHAR") -> str:
    """Whether a request of that path, and of that method if it is logged, spends nothing and answers nothing new."""
    is_read = f"regexp_full_match({method}, '(?i)GET|HEAD|OPTIONS|DELETE') AND NOT regexp_matches({given}, '/(realtime|live)')"
    return f"(coalesce(regexp_matches({_path(given)}, '{_NOTHING}'), false) OR coalesce({is_read}, false))"


_MODELS: dict[str, str] = {
    "rerank": r"rerank",
    "embedding": r"embedding|(^|[/._:-])embed(der)?([/._:@-]|$)|(^|[/._:-])(bge|gte|e5|all-minilm|all-mpnet|jina-clip|nomic-embed|mxbai-embed)-"
    r"|(^|/)voyage-",
    "transcription": r"(^|[/._:-])(whisper|transcribe)([/._:@-]|$)",
    "speech": r"(^|[/._:-])tts([/._:@-]|$)|(^|/)eleven_|text-to-speech",
    "image": r"dall-e|(^|[/._:-])(gpt-image|imagen|sdxl|flux|stable-diffusion|stable-image|nova-canvas|titan-image|chatgpt-image)([/._:@0-9-]|$)"
    r"|(^|[/._:-])image([._:@-]|$)",
    "other": r"(^|[/._:-])(veo|sora)-[0-9]",
    "moderation": r"(^|[/._:-])moderation([/._:@-]|$)|llama-guard|prompt-guard|shieldgemma",
}
_HINT = "embed|rerank|whisper|transcri|tts|eleven|speech|dall-e|imag|sdxl|flux|diffusion|canvas|moderation|guard|shield|bge-|gte-|e5-|minilm|mpnet|jina-clip|voyage|veo-|sora-"


def kind_of_model(given: str) -> str:
    """The kind that the name of a model gives away, where nothing else says it; null for what looks like any other model."""
    cases = "".join(f"\nWHEN regexp_matches(lower({given}), '{pattern}') THEN '{kind}'" for kind, pattern in _MODELS.items())
    # Most models are of no kind but chat: one look tells.
    return f"CASE WHEN regexp_matches(lower({given}), '{_HINT}') IS NOT TRUE THEN NULL {cases} END"


def kind_of_body(given: str) -> str:
    """The kind that the body of a request (JSON text) gives away: what is said, what is to be ranked, which voice shall speak; null for any other."""
    held = json_texts(given, ("messages", "contents", "documents", "query", "voice", "input"))
    return f"""CASE WHEN coalesce({held["messages"]}, {held["contents"]}) IS NOT NULL THEN 'chat'
        WHEN {held["documents"]} IS NOT NULL AND {held["query"]} IS NOT NULL THEN 'rerank'
        WHEN {held["voice"]} IS NOT NULL AND {held["input"]} IS NOT NULL THEN 'speech' END"""


def first_kind(*kinds: str) -> str:
    """The first of several sources that says something."""
    return "coalesce(" + ", ".join(f"({kind})" for kind in kinds) + ")"
