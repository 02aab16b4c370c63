"""The operations of the task on one home, each answered from the results store where the same was asked before.

Belongs here: which rows and which other results an operation needs, and under which key its own is kept. Does not belong
here: what is computed (`analysis`, `policy`, `recommendation`), who asks (`assets` hand results on by themselves; `mcp`
asks here).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import ibis

from routing_pipeline.analysis.bottlenecks import Bottlenecks, bottlenecks
from routing_pipeline.analysis.budget_projection import HISTORY_DAYS, BudgetProjection, budget_projection, daily_spend_by_team
from routing_pipeline.analysis.cost_drivers import CostDrivers, cost_drivers
from routing_pipeline.analysis.model_performance import ModelPerformance, model_performance
from routing_pipeline.analysis.quality_issues import QualityIssues, quality_issues
from routing_pipeline.analysis.quality_metrics import QualityMetrics, quality_metrics
from routing_pipeline.analysis.request_patterns import RequestPatterns, request_patterns
from routing_pipeline.analysis.routing_analytics import RoutingAnalytics, routing_analytics
from routing_pipeline.analysis.routing_costs import RoutingCosts, routing_costs
from routing_pipeline.analysis.routing_decisions import RoutingDecisions, routing_decisions
from routing_pipeline.catalog import Catalog
from routing_pipeline.data_quality import gate
from routing_pipeline.engine import MEMORY_LIMIT, open_engine
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.home import Home
from routing_pipeline.hourly_sums import priced
from routing_pipeline.ingest.content import content_of
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.looks import look
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan, cost_optimization_plan
from routing_pipeline.recommendation.given_rules import judged
from routing_pipeline.recommendation.model_mix import ModelMix, optimize_model_mix
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan, optimization_plan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks, optimization_risks
from routing_pipeline.recommendation.realized_outcomes import Promise, RealizedOutcomes, realized_outcomes
from routing_pipeline.recommendation.routing_rules import RoutingRules, asked_of_the_proof, optimize_routing_rules
from routing_pipeline.resolving import resolve_scope
from routing_pipeline.results import key_of
from routing_pipeline.scope import SECONDS_PER_DAY, AnalysisScope, LakeState, with_all_columns
from routing_pipeline.window_rows import rows_at

AnyResult = TypeVar("AnyResult", bound=Result)
Rows = Callable[[ibis.Table, ibis.Table], AnyResult]
"""From the rows of the window and of the equal window before to a result."""
Progress = Callable[[str], None]
"""Called with what begins now, for whoever waits."""


def lake_state(lake: Lake) -> LakeState:
    """What the lake holds now.

    Raises:
        UnusableInputError: it holds nothing.
    """
    newest_s, snapshot_id = lake.newest_s(), lake.snapshot_id()
    if newest_s is None or snapshot_id is None:
        raise UnusableInputError("the lake is empty; ingest logs first (routing-pipeline ingest --logs URI)")
    return LakeState(
        snapshot_id=snapshot_id,
        feedback_version=lake.feedback_version(),
        newest_s=newest_s,
        files_by_day=lake.names_by_day,
        feedback_files=lake.feedback_files(),
        readable=lake.readable,
        share=lake.home.files.share,
        names_in=lake.home.files.names_in,
        found=lake.home.files.found,
    )


class Analyst:
    """Answers about one home. May be asked from several threads: what is not stored yet is computed by one at a time."""

    def __init__(self, home: Home, engine_name: str = "duckdb", memory_limit: str = MEMORY_LIMIT) -> None:
        home.check_engine(engine_name)
        self.home, self.engine_name, self.memory_limit = home, engine_name, memory_limit
        self._computing = threading.RLock()

    # What everything rests on

    def scope(self, parameters: Parameters, progress: Progress | None = None) -> AnalysisScope:
        """The window that these parameters ask for, its rows made ready and found sound.

        Raises:
            UnusableInputError: there is no row to speak of.
            DataQualityError: a blocking check failed on the rows.
        """
        lake, results = Lake(self.home), self.home.results
        with self._computing:
            _say(progress, "making the window's rows ready")
            with open_engine(self.engine_name, memory_limit=self.memory_limit, spill_to=self.home.scratch / "spill") as engine:
                scope = resolve_scope(
                    lake_state(lake),
                    parameters,
                    engine=engine,
                    engine_name=self.engine_name,
                    scratch=self.home.window_scratch,
                    stored=results,
                )
            results.save("analysis_scope", scope.key, scope)
            _say(progress, "checking the data")
            gate(self.home, scope, lake)
        return scope

    def routing_evidence(self, scope: AnalysisScope, progress: Progress | None = None) -> RoutingEvidence:
        """Evidence comes from the rows alone: whatever is asked of the same rows shares it."""
        key = scope.evidence_key
        # A name of its own for every writer: whoever reads an evidence finds the cells that it was summed up from.
        results = self.home.results
        cells = results.beside(f"cells-{uuid.uuid4().hex}.parquet", key)

        def gathered(rows: ibis.Table, _: ibis.Table) -> RoutingEvidence:
            found = gather_evidence(rows, scope, Catalog(scope.parameters.models), cells_path=cells)
            return found if found.cells_uri is None else found.model_copy(update={"cells_uri": results.share(cells)})

        with self._computing:
            found = results.load("routing_evidence", key, RoutingEvidence)
            if found is not None and (found.cells_uri is None or results.has(found.cells_uri)):
                return found
            return self._computed("routing_evidence", key, scope, gathered, progress, sampled=True)

    # Steps 1 to 3

    def routing_analytics(self, scope: AnalysisScope, progress: Progress | None = None) -> RoutingAnalytics:
        """Step 1."""
        return self._answer(RoutingAnalytics, scope, lambda rows, _: routing_analytics(rows, scope), progress)

    def routing_costs(self, scope: AnalysisScope, progress: Progress | None = None) -> RoutingCosts:
        """Step 1."""
        return self._answer(RoutingCosts, scope, lambda rows, previous: routing_costs(rows, previous, scope), progress)

    def quality_metrics(self, scope: AnalysisScope, progress: Progress | None = None) -> QualityMetrics:
        """Step 1."""
        return self._answer(QualityMetrics, scope, lambda rows, _: quality_metrics(rows, scope), progress)

    def request_patterns(self, scope: AnalysisScope, progress: Progress | None = None) -> RequestPatterns:
        """Step 2."""
        return self._answer(RequestPatterns, scope, lambda rows, previous: request_patterns(rows, previous, scope), progress)

    def model_performance(
        self, scope: AnalysisScope, models: tuple[str, ...] | None = None, progress: Progress | None = None
    ) -> ModelPerformance:
        """Step 2; `models` None means all."""
        evidence = self.routing_evidence(scope, progress)
        part = "" if models is None else f"-{key_of(models=models)}"
        return self._answer(ModelPerformance, scope, lambda rows, _: model_performance(rows, scope, evidence, models), progress, part)

    def routing_decisions(self, scope: AnalysisScope, progress: Progress | None = None) -> RoutingDecisions:
        """Step 2, for the goal that the scope asks for."""
        evidence = self.routing_evidence(scope, progress)
        return self._answer(RoutingDecisions, scope, lambda rows, _: routing_decisions(rows, scope, evidence), progress)

    def bottlenecks(self, scope: AnalysisScope, progress: Progress | None = None) -> Bottlenecks:
        """Step 3."""
        return self._answer(Bottlenecks, scope, lambda rows, _: bottlenecks(rows, scope), progress)

    def budget_projection(self, scope: AnalysisScope, progress: Progress | None = None) -> BudgetProjection:
        """Month and quarter at the end of the scope's window, from as many months of the lake as there are."""
        with self._computing:
            files = Lake(self.home).attempt_files(scope.end_s - (HISTORY_DAYS + 1) * SECONDS_PER_DAY, scope.end_s)
            # Months of history are more than the scope's rows.
            key = key_of(scope=scope.key, history=content_of(files))
            found = self.home.results.load("budget_projection", key, BudgetProjection)
            if found is not None:
                return found
            _say(progress, "budget projection")
            with open_engine(self.engine_name, memory_limit=self.memory_limit, spill_to=self.home.scratch / "spill") as engine:
                attempts = priced(with_all_columns(engine.read_parquet(files)), Catalog(scope.parameters.models))
                spend = daily_spend_by_team(attempts, scope.end_s)
            result = budget_projection(spend, scope.end_s, scope.parameters)
            self.home.results.save("budget_projection", key, result)
            return result

    def cost_drivers(self, scope: AnalysisScope, progress: Progress | None = None) -> CostDrivers:
        """Step 3."""
        evidence = self.routing_evidence(scope, progress)
        return self._answer(CostDrivers, scope, lambda rows, previous: cost_drivers(rows, previous, scope, evidence), progress)

    def quality_issues(self, scope: AnalysisScope, progress: Progress | None = None) -> QualityIssues:
        """Step 3, for the threshold that the scope asks for."""
        evidence = self.routing_evidence(scope, progress)
        return self._answer(QualityIssues, scope, lambda rows, _: quality_issues(rows, scope, evidence), progress)

    # Steps 4 and 5

    def routing_rules(self, scope: AnalysisScope, progress: Progress | None = None) -> RoutingRules:
        """Step 4, for the goal and the limits that the scope asks for; its rule set is found by id from then on."""
        evidence, catalog = self.routing_evidence(scope, progress), Catalog(scope.parameters.models)
        number = look(self.home.coordination, scope.rows_key or scope.key, asked_of_the_proof(scope))
        rules = self._answer(RoutingRules, scope, lambda _rows, _: optimize_routing_rules(evidence, scope, catalog, look=number), progress)
        self.home.results.remember_rule_set(rules.rule_set.rule_set_id, scope.key)
        return rules

    def model_mix(self, scope: AnalysisScope, progress: Progress | None = None) -> ModelMix:
        """Step 4."""
        rules, evidence = self.routing_rules(scope, progress), self.routing_evidence(scope, progress)
        catalog = Catalog(scope.parameters.models)
        return self._answer(ModelMix, scope, lambda _rows, _: optimize_model_mix(evidence, scope, catalog, rules), progress)

    def cost_optimization_plan(
        self, scope: AnalysisScope, rules: RoutingRules | None = None, progress: Progress | None = None
    ) -> CostOptimizationPlan:
        """Step 4, for the reduction that the scope asks for; `rules` default to the optimised ones."""
        taken = self.routing_rules(scope, progress) if rules is None else rules
        costs, drivers = self.routing_costs(scope, progress), self.cost_drivers(scope, progress)
        return self._answer(
            CostOptimizationPlan, scope, lambda _rows, _: cost_optimization_plan(scope, taken, costs, drivers), progress, _of(rules)
        )

    def optimization_plan(
        self, scope: AnalysisScope, rules: RoutingRules | None = None, progress: Progress | None = None
    ) -> OptimizationPlan:
        """Step 5; `rules` default to the optimised ones."""
        taken = self.routing_rules(scope, progress) if rules is None else rules
        cost_plan = self.cost_optimization_plan(scope, rules, progress)
        drivers, issues, slow = self.cost_drivers(scope, progress), self.quality_issues(scope, progress), self.bottlenecks(scope, progress)
        return self._answer(
            OptimizationPlan,
            scope,
            lambda _rows, _: optimization_plan(scope, taken, cost_plan, drivers, issues, slow),
            progress,
            _of(rules),
        )

    def optimization_risks(
        self, scope: AnalysisScope, rules: RoutingRules | None = None, progress: Progress | None = None
    ) -> OptimizationRisks:
        """Step 5; `rules` default to the optimised ones."""
        taken, evidence = self.routing_rules(scope, progress) if rules is None else rules, self.routing_evidence(scope, progress)
        return self._answer(
            OptimizationRisks, scope, lambda rows, _: optimization_risks(scope, evidence, taken, rows), progress, _of(rules)
        )

    def judged_rules(self, rule_set: RuleSet, scope: AnalysisScope, progress: Progress | None = None) -> RoutingRules:
        """Rules from elsewhere, with what the logs say of them on the sessions that no search has seen."""
        evidence = self.routing_evidence(scope, progress)
        return self._answer(
            RoutingRules,
            scope,
            lambda rows, _: judged(rule_set, evidence, rows, scope),
            progress,
            f"-{key_of(given=rule_set.model_dump_json())}",
            sampled=True,
        )

    def realized_outcomes(self, scope: AnalysisScope, promised: Sequence[Promise], progress: Progress | None = None) -> RealizedOutcomes:
        """What was promised earlier against what came of it; promises are no part of the scope, so they are part of the key."""
        key = key_of(scope=scope.key, promised=[(rule_set.model_dump_json(), str(status)) for rule_set, status in promised])
        with self._computing:
            found = self.home.results.load("realized_outcomes", key, RealizedOutcomes)
            if found is not None:
                return found
            return self._computed("realized_outcomes", key, scope, lambda rows, _: realized_outcomes(rows, scope, promised), progress)

    def rules_of(self, rule_set_id: str) -> tuple[AnalysisScope, RoutingRules] | None:
        """The optimisation that a rule set of this home came from; None when no such id is known, or it was dropped."""
        results = self.home.results
        key = results.key_of_rule_set(rule_set_id)
        scope = None if key is None else results.load("analysis_scope", key, AnalysisScope)
        rules = None if scope is None else results.load("routing_rules", scope.key, RoutingRules)
        return None if scope is None or rules is None or rules.rule_set.rule_set_id != rule_set_id else (scope, rules)

    # From the store, else computed

    def _answer(
        self,
        kind: type[AnyResult],
        scope: AnalysisScope,
        compute: Rows[AnyResult],
        progress: Progress | None,
        part: str = "",
        *,
        sampled: bool = False,
    ) -> AnyResult:
        name = _name_of(kind) + part
        with self._computing:
            found = self.home.results.load(name, scope.key, kind)
            return self._computed(name, scope.key, scope, compute, progress, sampled=sampled) if found is None else found

    def _computed(
        self, name: str, key: str, scope: AnalysisScope, compute: Rows[AnyResult], progress: Progress | None, *, sampled: bool = False
    ) -> AnyResult:
        _say(progress, name.partition("-")[0].replace("_", " "))
        with self._rows(scope, sampled=sampled) as (requests, previous):
            result = compute(requests, previous)
        self.home.results.save(name, key, result)
        return result

    @contextmanager
    def _rows(self, scope: AnalysisScope, *, sampled: bool) -> Iterator[tuple[ibis.Table, ibis.Table]]:
        with open_engine(self.engine_name, memory_limit=self.memory_limit, spill_to=self.home.scratch / "spill") as engine:
            yield rows_at(engine, scope.estimated_from if sampled else scope.requests_uri), rows_at(engine, scope.previous_uri)


def _name_of(kind: type[Result]) -> str:
    """RoutingAnalytics -> routing_analytics: the name of the asset, too."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def _of(rules: RoutingRules | None) -> str:
    """What tells results about given rules from those about the optimised ones."""
    return "" if rules is None else f"-{key_of(rules=rules.model_dump_json())}"


def _say(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)
