"""What Router Replay records of the vLLM Semantic Router read as, on records made by hand.

After the struct `routerreplay/store.Record` of its main branch in autumn 2026 (configuration version v0.3): names, what Go leaves out, what its
interface answers, and what `routing_sampling` writes of its candidates.
"""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.gateways.exported import read_yaml
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.table import GATEWAYS
from routing_pipeline.ingest.formats.vllm_sr import records
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import logged_rule_id
from routing_pipeline.rules.reading import read_given_rules
from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "id": "a3f1",
    "timestamp": "2026-11-20T13:46:19.963123456Z",
    "request_id": "req-1",
    "session_id": "s1",
    "turn_index": 0,
    "recipe": "default",
    "decision": "computer_science",
    "decision_tier": 2,
    "decision_priority": 100,
    "category": "computer science",
    "original_model": "auto",
    "selected_model": "qwen3-32b",
    "reasoning_mode": "off",
    "confidence_score": 0.83,
    "confidence_score_available": True,
    "selection_method": "multi_factor",
    "signals": {"domain": ["computer science"], "complexity": ["general:easy", "code:hard"]},
    "prompt": "the secret prompt",
    "request_body": '{"messages": [{"role": "user", "content": "the secret prompt"}]}',
    "response_body": '{"choices": [{"message": {"content": "the secret answer"}}]}',
    "response_status": 200,
    "lifecycle_state": "completed",
    "ended_at": "2026-11-20T13:46:21.463Z",
    "duration_ms": 1500,
    "terminal_reason": "response_complete",
    "streaming": True,
    "jailbreak_score_available": False,
    "response_jailbreak_score_available": False,
    "hallucination_score_available": False,
    "prompt_tokens": 1200,
    "cached_prompt_tokens": 1024,
    "cache_write_tokens": 0,
    "completion_tokens": 25,
    "total_tokens": 1225,
    "actual_cost": 0.00197,
    "baseline_cost": 0.01,
    "cost_savings": 0.00803,
    "currency": "USD",
    "baseline_model": "gpt-4o",
}


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: each for name, each in (BASE | changes).items() if name not in names}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*given: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                {**each, "id": f"r-{number}", "timestamp": each.get("timestamp") or ""}
                | ({"timestamp": f"2026-11-20T13:{number:02d}:19.963Z"} if each.get("timestamp") == BASE["timestamp"] else {})
                for number, each in enumerate(given)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("vllm_sr",)
        return read

    return rows


# What a record says


def test_a_record_is_one_attempt(tmp_path: Path) -> None:
    (tmp_path / "logs.json").write_text(json.dumps(BASE))
    row = read_logs(tmp_path / "logs.json", tmp_path / "home").row
    assert (row["attempt_id"], row["request_id"], row["session_id"]) == ("a3f1", "req-1", "s1")
    assert (row["started_at"], row["latency_ms"]) == (datetime(2026, 11, 20, 13, 46, 19, 963123), 1500.0)
    assert (row["model"], row["provider_model"], row["provider"]) == ("qwen3-32b", "qwen3-32b", None)
    assert (row["task_type"], row["complexity"]) == ("computer science", 0.75)
    assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (1200, 25, 1024)
    assert (row["cost_usd"], row["status"], row["error_type"]) == (0.00197, "success", None)
    assert (row["routing_rule_id"], row["rule_arm"], row["routing_reason"]) == ("computer_science", None, "multi_factor")
    assert (row["router_tier"], row["router_score"], row["propensity"]) == ("2", 0.83, None)
    assert (row["is_cache_hit"], row["has_tools"], row["operation"]) == (False, None, None)
    assert (row["ttft_ms"], row["routing_latency_ms"], row["user_hash"], row["has_image"]) == (None, None, None, None)


def test_nothing_that_was_said_is_kept(tmp_path: Path) -> None:
    (record,) = records(BASE | {"tool_definitions": "the secret tools", "tool_trace": {"steps": [{"text": "the secret step"}]}})
    assert "secret" not in json.dumps(record)
    (tmp_path / "logs.jsonl").write_bytes(json_lines([BASE, BASE | {"id": "b", "timestamp": "never"}]))
    found = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
    assert (found.result.ingested, found.result.quarantined) == (1, 1)
    assert not [each for each in (tmp_path / "home").rglob("*") if each.is_file() and b"secret" in each.read_bytes()]


def test_a_page_of_the_interface_one_record_and_dumps_of_the_stores_read_alike(tmp_path: Path) -> None:
    page = {"object": "router_replay.list", "count": 2, "total": 5, "limit": 2, "offset": 0, "has_more": True, "next_offset": 2}
    both = [BASE, BASE | {"id": "b"}]
    (tmp_path / "page.json").write_text(json.dumps(page | {"data": both}, indent=1))
    (tmp_path / "lines.jsonl").write_bytes(json_lines(both))
    (tmp_path / "redis.jsonl").write_bytes(json_lines({"key": f"router_replay:{each['id']}", "value": json.dumps(each)} for each in both))
    columns = {name: [json.dumps(each[name]) if isinstance(each[name], dict) else each[name] for each in both] for name in BASE}
    pq.write_table(pa.table(columns), tmp_path / "postgres.parquet")
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    (tmp_path / "postgres.csv").write_text(table.getvalue())
    rows = []
    for number, each in enumerate(("page.json", "lines.jsonl", "redis.jsonl", "postgres.parquet", "postgres.csv")):
        found = read_logs(tmp_path / each, tmp_path / f"home-{number}")
        assert (found.result.formats, found.result.ingested, found.refused) == (("vllm_sr",), 2, []), each
        rows.append([{name: value for name, value in row.items() if name not in {"source_object", "ingested_at"}} for row in found.rows])
    assert all(each == rows[0] for each in rows)


def test_a_record_of_an_early_version_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    early = {"id": "e", "timestamp": "2026-01-15T10:30:45Z", "request_id": "r", "decision": "math_route", "category": "mathematics"}
    early |= {"original_model": "auto", "selected_model": "gpt-oss-120b", "reasoning_mode": "high", "signals": {"domain": ["mathematics"]}}
    page = {"object": "router_replay.list", "count": 1, "data": [early | {"response_status": 200, "from_cache": False, "streaming": False}]}
    (tmp_path / "page.json").write_text(json.dumps(page))
    row = read_logs(tmp_path / "page.json", tmp_path / "home").row
    assert (row["attempt_id"], row["model"], row["status"], row["routing_rule_id"]) == ("e", "gpt-oss-120b", "success", "math_route")
    assert (row["reasoning_effort"], row["latency_ms"], row["cost_usd"], row["prompt_tokens"]) == ("high", None, None, None)


def test_a_store_that_keeps_its_method_among_the_diagnostics_says_it_too(read: Any) -> None:
    row = read(without("selection_method", route_diagnostics={"selection_method": "router_dc", "selected_model": "qwen3-32b"})).row
    assert row["routing_reason"] == "router_dc"


# How it ended


def test_a_record_in_progress_is_no_attempt_yet_and_is_read_once_it_ended(tmp_path: Path) -> None:
    pending = without("response_status", "ended_at", "duration_ms", "terminal_reason", "actual_cost", lifecycle_state="in_progress")
    (tmp_path / "1.json").write_text(json.dumps(pending))
    (tmp_path / "2.json").write_text(json.dumps(without("response_status", "lifecycle_state", id="of an older version")))
    first = read_logs(tmp_path, tmp_path / "home")
    assert (first.rows, first.refused) == ([], [])
    assert first.result.left_out == {"requests that had not ended or reached no model": 2}
    (tmp_path / "3.json").write_text(json.dumps(BASE))
    assert read_logs(tmp_path, tmp_path / "home").row["cost_usd"] == 0.00197


def test_a_status_of_200_is_no_success_when_the_client_went_away(read: Any) -> None:
    rows = read(
        BASE | {"lifecycle_state": "aborted", "terminal_reason": "request_canceled"},
        BASE | {"lifecycle_state": "aborted", "terminal_reason": "request_deadline_exceeded"},
        BASE | {"lifecycle_state": "failed", "terminal_reason": "upstream_error_response", "response_status": 503},
        without("response_status"),
        BASE | {"response_status": 429},
        without("lifecycle_state", "ended_at", "duration_ms", "terminal_reason"),
        without("ended_at", "duration_ms", "terminal_reason", lifecycle_state="unknown", response_status=500),
    )
    assert rows.column("status") == ["cancelled", "failure", "failure", "success", "failure", "success", "failure"]
    assert rows.column("error_type") == [
        *("request_canceled", "request_deadline_exceeded", "503", None),
        *("429", None, "500"),
    ]
    assert rows.column("latency_ms")[-2:] == [None, None]


def test_what_lasted_less_than_a_millisecond_is_told_by_its_end(read: Any) -> None:
    row = read(without("duration_ms", timestamp="2026-11-20T13:46:19.963Z", ended_at="2026-11-20T13:46:19.9634Z")).row
    assert row["latency_ms"] == pytest.approx(0.4)


def test_a_request_that_was_blocked_called_no_model(read: Any) -> None:
    found = read(BASE, without("selected_model", response_status=403, pii_blocked=True))
    assert (len(found.rows), sum(found.result.left_out.values())) == (1, 1)


def test_an_answer_from_the_routers_cache_costs_nothing(read: Any) -> None:
    row = read(without("selected_model", from_cache=True, actual_cost=0, original_model="qwen3-32b")).row
    assert (row["is_cache_hit"], row["cost_usd"], row["model"]) == (True, 0.0, "qwen3-32b")


# What it took


def test_a_cost_of_nothing_for_tokens_or_in_another_currency_is_unknown(read: Any) -> None:
    rows = read(BASE | {"actual_cost": 0}, BASE | {"currency": "CNY"}, without("currency"), without("actual_cost", "currency"))
    assert rows.column("cost_usd") == [None, None, 0.00197, None]


def test_parts_of_the_prompt_that_are_zero_were_not_reported(read: Any) -> None:
    rows = read(BASE | {"cached_prompt_tokens": 0, "cache_write_tokens": 100}, without("cached_prompt_tokens", "cache_write_tokens"))
    assert rows.column("cached_tokens") == [None, None]
    assert rows.column("cache_write_tokens") == [100, None]
    assert rows.column("prompt_tokens") == [1200, 1200]


def test_the_tokens_of_a_looper_are_those_of_several_models_and_its_cost_that_of_all_attempts(read: Any) -> None:
    attempt = {"ordinal": 1, "stage": "model", "model": "qwen3-8b", "status": "ok", "actual_cost": 0.001, "currency": "USD"}
    other = attempt | {"ordinal": 2, "model": "qwen3-32b", "actual_cost": 0.004}
    looped = [
        without("actual_cost", "currency", route_diagnostics={"looper": {"version": 1, "algorithm": "confidence", **looper}})
        for looper in (
            {"attempts": [attempt, other]},
            {"attempts": [attempt, other], "attempts_truncated": True},
            {"attempts": [attempt, {"ordinal": 2}]},
            {"attempts": [other]},
        )
    ]
    rows = read(*looped)
    assert rows.column("cost_usd") == [pytest.approx(0.005), None, None, None]
    assert rows.column("prompt_tokens") == [None, None, None, 1200]
    assert rows.column("completion_tokens") == [None, None, None, 25]


# What the router went by


def test_a_task_without_a_category_is_its_only_domain_and_a_complexity_is_the_hardest(read: Any) -> None:
    rows = read(
        without("category"),
        without("category", signals={"domain": ["law", "health"], "complexity": ["general:medium", "general:easy"]}),
        without("category", signals={"complexity": ["odd"]}),
    )
    assert rows.column("task_type") == ["computer science", None, None]
    assert rows.column("complexity") == [0.75, 0.5, None]


def test_a_confidence_counts_only_where_it_is_said_to_be_one(read: Any) -> None:
    rows = read(without("confidence_score_available"), BASE | {"confidence_score": None, "confidence_score_available": False})
    assert rows.column("router_score") == [None, None]
    assert rows.result.nulled == {}


def test_a_decision_of_ours_says_rule_set_rule_and_arm(read: Any) -> None:
    moved = {"adaptation": {"mode": "apply", "base_model": "qwen3-8b", "proposal_model": "qwen3-32b", "reason": "posterior_win"}}
    rows = read(
        BASE | {"decision": "rules/rs-1/code-to-small", "decision_tier": 0},
        BASE | {"decision": "rules/rs-1/split/2", "decision_tier": 0},
        BASE | {"decision": "rules/rs-1/split/2", "learning": moved},
        BASE | {"decision": "rules/odd"},
    )
    assert rows.column("routing_rule_id") == ["rs-1/code-to-small", "rs-1/split", "rs-1/split", "rules/odd"]
    assert rows.column("rule_arm") == ["qwen3-32b", "qwen3-32b", None, None]
    assert rows.column("routing_reason") == ["multi_factor", "multi_factor", "multi_factor: posterior_win", "multi_factor"]
    assert rows.column("router_score") == [None, None, None, 0.83]


def test_every_decision_that_an_export_writes_gives_back_the_rule_and_the_arm_that_were_exported(read: Any) -> None:
    rules = [
        {"when": {"task_type": ["code"]}, "route": [{"model": "qwen3-8b", "weight": 0.3}, {"model": "gpt-4o", "weight": 0.7}]},
        {"when": {"task_type": ["law"]}, "route": "qwen3-32b"},
    ]
    plan = plan_of(read_given_rules(rules, Parameters()), 1.0)
    written = read_yaml(GATEWAYS["vllm-sr"].write(plan, None, "gpt-4o").files["config.yaml"], "the export")["routing"]["decisions"]
    rows = read(*(BASE | {"decision": each["name"], "selected_model": each["modelRefs"][0]["model"]} for each in written))
    wanted = [(logged_rule_id(plan.rule_set_id, rule.id), str(each.model)) for rule in plan.rules for each in rule.route]
    assert list(zip(rows.column("routing_rule_id"), rows.column("rule_arm"), strict=True)) == wanted
    assert len(wanted) == 3


def test_tools_are_told_by_their_definitions_or_names(read: Any) -> None:
    rows = read(
        BASE | {"tool_definitions": '[{"type": "function"}]'},
        BASE | {"tool_trace": {"tool_names": ["search"]}},
        BASE | {"tool_definitions": "[]", "tool_trace": {}},
    )
    assert rows.column("has_tools") == [True, True, None]


# With what probability


class Router:
    """Draws as `routing_sampling` does, and writes down what it does; outcomes by model: good, underpowered, overprovisioned, failed."""

    def __init__(self, outcomes: dict[str, tuple[int, int, int, int]], costs: dict[str, float], base: str, candidate_set: str) -> None:
        self.outcomes, self.costs, self.base, self.candidate_set = outcomes, costs, base, candidate_set
        self.margin = {"decision": 0.0, "tier": 0.03, "global": 0.08}[candidate_set]
        self.draw = np.random.default_rng(7)

    def adaptation(self) -> dict[str, Any]:
        scores = {}
        for model, (good, under, over, failed) in self.outcomes.items():
            alpha, beta, total = good + 2.0, under + 2.0, good + under + over + failed + 1
            drawn = self.draw.beta(alpha, beta)
            cost, overuse, failures, late, cached = self.costs[model], 0.03 * over / total, 0.10 * failed / total, -0.0071, 0.0033
            added = -cost - overuse - failures + late + cached + (0.001 if model == self.base else 0)
            parts = {"posterior_mean": alpha / (alpha + beta), "predicted_quality": drawn, "cost_penalty": cost}
            parts |= {"overuse_penalty": overuse, "reliability_penalty": failures, "latency_adjustment": late, "cache_adjustment": cached}
            scores[model] = {"score": drawn + added, **parts}
        best = max(scores, key=lambda model: scores[model]["score"])
        asked = scores[self.base]["score"] + self.margin + max(0.0, self.costs[best] - self.costs[self.base])
        chosen = best if best == self.base or scores[best]["score"] >= asked else self.base
        return {
            "learning": "router_learning",
            "method": "adaptation",
            "mode": "apply",
            "strategy": "routing_sampling",
            "action": "keep_base" if chosen == self.base else "propose_switch",
            "reason": "base_best" if chosen == self.base else "sampled_win",
            "candidate_set": self.candidate_set,
            "base_model": self.base,
            "proposal_model": chosen,
            "sampling": {"used": True, "seed": 1763646379963123456},
            # Go leaves out what rounds to nothing.
            "scores": {
                model: {name: rounded for name, each in score.items() if (rounded := round(each, 4)) != 0}
                for model, score in scores.items()
            },
            "success_estimates": {
                model: {"status": "unsupported", "sample_count": sum(outcomes), "evidence_scope": "decision"}
                for model, outcomes in self.outcomes.items()
            },
        }


OUTCOMES = {"small": (12, 5, 0, 1), "middle": (30, 7, 4, 0), "large": (3, 1, 2, 0), "new": (0, 0, 0, 0)}
COSTS = {"small": 0.004, "middle": 0.02, "large": 0.06, "new": 0.01}


def chosen(adaptation: dict[str, Any], **protection: Any) -> dict[str, Any]:
    learning = {"adaptation": adaptation} | ({"protection": protection} if protection else {})
    return BASE | {"selected_model": adaptation["proposal_model"], "learning": learning}


def propensity(record: dict[str, Any]) -> float | None:
    (found,) = records(record)
    return None if found.get("propensity") is None else float(found["propensity"])


@pytest.mark.parametrize("candidate_set", ["decision", "tier", "global"])
@pytest.mark.parametrize("base", ["small", "large"])
def test_a_draw_has_the_probability_that_draws_show(base: str, candidate_set: str) -> None:
    router = Router(OUTCOMES, COSTS, base, candidate_set)
    n = 4_000
    drawn = [router.adaptation() for _ in range(n)]
    said: dict[str, set[float | None]] = {}
    for each in drawn:
        said.setdefault(each["proposal_model"], set()).add(propensity(chosen(each)))
    assert len(said) == len(OUTCOMES)
    for model, found in said.items():
        # What the probability is made of does not hang on what was drawn.
        (value,) = found
        assert value is not None
        share = sum(each["proposal_model"] == model for each in drawn) / n
        assert value == pytest.approx(share, abs=4 * math.sqrt(value * (1 - value) / n)), model
    assert sum(value for found in said.values() for value in found if value) == pytest.approx(1, abs=1e-3)


def test_the_probability_of_a_draw_is_the_propensity_of_the_row(read: Any) -> None:
    each = Router(OUTCOMES, COSTS, "small", "decision").adaptation()
    row = read(chosen(each)).row
    assert row["propensity"] == pytest.approx(propensity(chosen(each)))
    assert 0 < row["propensity"] < 1


def test_without_counts_of_outcomes_no_probability_is_known() -> None:
    each = Router(OUTCOMES, COSTS, "small", "decision").adaptation()
    assert propensity(chosen(each)) is not None
    assert propensity(chosen({name: value for name, value in each.items() if name != "success_estimates"})) is None
    estimates = each["success_estimates"]
    assert propensity(chosen(each | {"success_estimates": {name: estimates[name] for name in ("small", "middle")}})) is None
    # What a wider scope holds is not always what was drawn from.
    assert propensity(chosen(each | {"success_estimates": estimates | {"new": {"sample_count": 0, "evidence_scope": "global"}}})) is None
    # A count that belongs to another mean: outcomes came in between, or the belief began elsewhere.
    assert propensity(chosen(each | {"success_estimates": estimates | {"small": estimates["small"] | {"sample_count": 19}}})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "observe"},
        {"strategy": "linear_thompson"},
        {"sampling": {"used": False}},
        {"reason": "cold_start"},
        {"reason": ""},
        {"base_model": "another"},
        {"proposal_model": "middle"},
        {"candidate_set": "unheard of"},
        {"scores": {}},
        {"scores": None},
        {"scores": "small"},
        {"success_estimates": [1]},
    ],
)
def test_what_was_not_decided_by_draws_has_no_propensity(change: dict[str, Any]) -> None:
    router = Router(OUTCOMES, COSTS, "small", "decision")
    each = next(each for each in iter(router.adaptation, None) if each["proposal_model"] == "small")
    record = chosen(each)
    assert propensity(record) is not None
    assert propensity(record | {"learning": {"adaptation": each | change}}) is None


def test_a_score_that_rounds_to_nothing_is_left_out_and_still_counts() -> None:
    each = Router(OUTCOMES, COSTS, "small", "decision").adaptation()
    score = each["scores"]["new"]
    # As if it had cost so much that nothing is left.
    level = {"cost_penalty": round(score["cost_penalty"] + score["score"], 4)}
    scores = each["scores"] | {"new": {name: value for name, value in (score | level).items() if name != "score"}}
    assert each["proposal_model"] == "middle"
    before, after = propensity(chosen(each)), propensity(chosen(each | {"scores": scores}))
    assert before is not None
    assert after is not None
    assert after > before


def test_one_candidate_is_no_chance() -> None:
    assert propensity(chosen(Router({"small": (3, 1, 0, 0)}, COSTS, "small", "decision").adaptation())) is None


def test_protection_leaves_a_propensity_only_where_it_would_have_passed_on_any_proposal() -> None:
    each = Router(OUTCOMES, COSTS, "small", "decision").adaptation()
    known, model = propensity(chosen(each)), each["proposal_model"]
    first = {"mode": "apply", "missing_signals": ["previous_model"], "final_model": model, "action": "allow_switch"}
    assert propensity(chosen(each, **first)) == known
    assert propensity(chosen(each, mode="observe", current_model="large", final_model=model)) == known
    assert propensity(chosen(each, mode="apply", action="suppress_sampling", reason="missing_identity")) == known
    assert propensity(chosen(each, mode="apply", current_model="small", final_model=model, decision_reason="switch_allowed")) is None
    assert propensity(chosen(each, mode="apply", action="hold_current", reason="protection_unavailable")) is None
    assert propensity(chosen(each, **first | {"rescue": {"active": True}})) is None
    assert propensity(chosen(each, **first | {"final_model": "another"})) is None
    # Another model served than was proposed.
    assert propensity(chosen(each) | {"selected_model": "another"}) is None


def test_an_even_draw_is_known_where_protection_says_among_how_many() -> None:
    def even(**changes: Any) -> dict[str, Any]:
        protection = {"mode": "observe", "base_method": "random", "base_selected_model": "qwen3-32b"}
        protection |= {"base_scores": dict.fromkeys(("qwen3-32b", "qwen3-8b", "gpt-4o"), 1 / 3)} | changes
        return BASE | {"selection_method": "random", "learning": {"protection": protection}}

    assert propensity(even()) == pytest.approx(1 / 3)
    assert propensity(even(base_scores={"qwen3-32b": 1.0})) is None
    assert propensity(even(base_scores={"qwen3-32b": 1 / 3, "qwen3-8b": 1 / 3})) is None
    assert propensity(even(base_selected_model="gpt-4o")) is None
    assert propensity(BASE | {"selection_method": "random"}) is None
    assert propensity(even(base_method="static") | {"selection_method": "static"}) is None


# Hostile input


def test_fields_of_other_types_are_refused_or_unknown_and_never_break(read: Any) -> None:
    odd: list[Any] = [None, [], {}, "", 1, "x", True, [[1]], {"a": {}}, "{", 1e300]
    names = ("signals", "route_diagnostics", "learning", "tool_trace", "tool_definitions", "category", "session_id", "decision")
    given = [BASE | {name: value} for name in names for value in odd]
    given += [BASE | {"learning": {"adaptation": value, "protection": value}} for value in odd]
    given += [
        chosen({**Router(OUTCOMES, COSTS, "small", "decision").adaptation(), "scores": {"small": value, "middle": value}}) for value in odd
    ]
    given += [BASE | {"route_diagnostics": {"looper": {"attempts": [value, value]}}} for value in odd]
    found = read(*(each | {"timestamp": f"2026-11-20T13:00:00.{number:06d}Z"} for number, each in enumerate(given)))
    assert found.result.records == len(given)
    assert set(found.column("propensity")) == {None}


def test_no_field_of_the_diagnostics_breaks_a_record_whatever_it_holds() -> None:
    odd: list[Any] = [None, [], {}, "", 1, "x", True, [[1]], {"a": {}}, "{", 1e300, -(10**400)]
    each = Router(OUTCOMES, COSTS, "small", "decision").adaptation()
    protection = {
        "mode": "apply",
        "missing_signals": ["previous_model"],
        "final_model": each["proposal_model"],
        "base_scores": {"small": 1},
    }
    record = chosen(each, **protection)
    for value in odd:
        for name in each:
            (_,) = records(record | {"learning": {"adaptation": each | {name: value}, "protection": protection}})
        for name in (*protection, "reason", "rescue", "base_method", "base_model", "base_selected_model"):
            (_,) = records(record | {"learning": {"adaptation": each, "protection": protection | {name: value}}})
            (_,) = records(record | {"selection_method": value, "learning": {"protection": protection | {name: value}}})
        for name in each["scores"]["small"]:
            scores = each["scores"] | {"small": each["scores"]["small"] | {name: value}}
            (_,) = records(record | {"learning": {"adaptation": each | {"scores": scores}}})
        for name in ("sample_count", "evidence_scope"):
            counted = each["success_estimates"] | {"small": each["success_estimates"]["small"] | {name: value}}
            (_,) = records(record | {"learning": {"adaptation": each | {"success_estimates": counted}}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actual_cost": -1}, "actual_cost is negative"),
        ({"actual_cost": "many"}, "actual_cost is not a number"),
        ({"prompt_tokens": "many"}, "prompt_tokens is not a number"),
        ({"duration_ms": "long"}, "duration_ms (or ended_at less timestamp) is not a number"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "timestamp lies before 2015"),
        ({"timestamp": "yesterday"}, "timestamp is missing or not a number of seconds since 1970"),
        ({"timestamp": 1_763_646_379_963}, "timestamp is in milliseconds; seconds since 1970 are expected"),
        ({"lifecycle_state": "dreaming"}, "neither lifecycle_state nor response_status says how it ended"),
        ({"id": ""}, "no key: id is not there"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (tmp_path / "logs.json").write_text(json.dumps(BASE | change))
    found = read_logs(tmp_path / "logs.json", tmp_path / "home")
    assert [each for _, each in found.refused] == [reason]


def test_a_clock_in_seconds_reads_as_one_in_words(read: Any) -> None:
    assert read(BASE | {"timestamp": 1_795_182_379.963}).row["started_at"] == datetime(2026, 11, 20, 13, 46, 19, 963000)


def test_of_a_page_that_breaks_off_the_records_before_the_break_are_read(tmp_path: Path) -> None:
    text = json.dumps({"object": "router_replay.list", "count": 2, "data": [BASE, BASE | {"id": "b"}]}, indent=1)
    (tmp_path / "page.json").write_text(text[: text.rindex('"baseline_model"')])
    found = read_logs(tmp_path / "page.json", tmp_path / "home")
    assert (len(found.rows), len(found.refused)) == (1, 1)
