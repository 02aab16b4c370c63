"""Do the sensors' detectors find what was planted, soon, and nothing else?

Simulates hourly sums (never rows) of quarters of traffic: requests a day, five teams, four models, four task types, office
hours and weekends, growth, days and hours that vary, heavy-tailed costs. Every week holds one incident, an hour to three days long: a cost
spike (x1.5 to x4 by volume or by price, of all traffic or of one team or model), a model that becomes slow (x1.5 to x4),
worse (quality -0.1 to -0.3) or failing (+10 to +50 points), a silent feed (all, or a team). Each hour is judged as the sensors
do, with their own code. An alert counts as true from an incident's first hour until a day after its end (the day's window
looks back that far), and only from the sensor that is meant to see it; any other is false. One exception, counted apart: while one
team or model sends more requests than usual, slower or worse answers on average are a consequence, and truly there.

    python benchmarks/detectors.py [--quarters 200] [--seed 1] [--requests 20000]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from routing_pipeline.alerts.decisions import cost_measure, failure_measure, latency_measure, quality_measure
from routing_pipeline.alerts.detection import detect
from routing_pipeline.alerts.incidents import Memory
from routing_pipeline.alerts.missing_traffic import SilenceMemory, silences
from routing_pipeline.alerts.series import HourlySums, Series
from routing_pipeline.clock import HOURS_PER_WEEK
from routing_pipeline.parameters import AlertThresholds

WARM_UP_WEEKS, QUARTER_WEEKS = 6, 13
HOURS = (WARM_UP_WEEKS + QUARTER_WEEKS) * HOURS_PER_WEEK
TEAMS = np.array([0.40, 0.25, 0.20, 0.10, 0.05])
MODELS = np.array([0.45, 0.30, 0.20, 0.05])
TASKS = np.array([0.40, 0.30, 0.20, 0.10])
PRICE = np.array([0.005, 0.02, 0.05, 0.1])
TOKEN_SIGMA = 0.8
LATENCY_MU, LATENCY_SIGMA = np.log(np.array([800.0, 1500.0, 2500.0, 4000.0])), 0.6
QUALITY, QUALITY_SD, LABELLED = np.array([0.78, 0.84, 0.90, 0.93]), 0.2, 1 / 3
# Spend of the simulated traffic is some $470 a day.
THRESHOLDS = AlertThresholds(cost_floor_usd=2.0)
AFTER_H = 24
MONTH_DAYS = 30.4
TARGET_RECALL, TARGET_FALSE, TARGET_DELAY = 0.95, 1.0, 2.0

SENSORS = {
    "cost": "cost_spike",
    "latency": "latency_spike",
    "quality": "quality_drop",
    "failures": "quality_drop",
    "silence": "silent_feed",
}


@dataclass(frozen=True)
class Incident:
    """Hours [start, end) of one kind; `size` is its factor, or its points of quality or failures."""

    kind: str
    start: int
    end: int
    size: float
    part: str
    value: int
    by_volume: bool

    @property
    def is_large(self) -> bool:
        """x2 and above; for what has no factor, all of it."""
        return self.kind in {"quality", "failures", "silence"} or self.size >= 2.0


def planted(rng: np.random.Generator) -> list[Incident]:
    found = []
    for week in range(QUARTER_WEEKS):
        kind = str(rng.choice(["cost", "cost", "latency", "quality", "failures", "silence"]))
        hours = round(float(np.exp(rng.uniform(0.0, np.log(72.0)))))
        start = (WARM_UP_WEEKS + week) * HOURS_PER_WEEK + int(rng.integers(0, HOURS_PER_WEEK - 72 - AFTER_H))
        part, value = "all", 0
        if kind in {"latency", "quality", "failures"}:
            part, value = "model", int(rng.integers(0, 3))
        elif rng.random() < 0.4:
            part, value = ("model", int(rng.integers(1, 3))) if kind == "cost" and rng.random() < 0.5 else ("team", int(rng.integers(0, 3)))
        size = {"quality": rng.uniform(0.1, 0.3), "failures": rng.uniform(0.1, 0.5), "silence": 0.0}.get(kind, rng.uniform(1.5, 4.0))
        found.append(Incident(kind, start, start + hours, float(size), part, value, bool(rng.random() < 0.5)))
    return found


def profile() -> np.ndarray:
    """Requests by hour of the week, Monday first, relative to the mean hour."""
    hour, day = np.arange(HOURS_PER_WEEK) % 24, np.arange(HOURS_PER_WEEK) // 24
    shape = 0.35 + 1.3 * np.exp(-(((hour - 14.0) / 4.0) ** 2)) * np.where(day < 5, 1.0, 0.35)
    return shape / shape.mean()


def wander(rng: np.random.Generator, rows: int, sd: float, memory: float) -> np.ndarray:
    """Gaussian noise with memory from hour to hour, rows x HOURS."""
    shocks = rng.normal(0.0, sd * np.sqrt(1 - memory**2), (rows, HOURS))
    shocks[:, 0] = rng.normal(0.0, sd, rows)
    for hour in range(1, HOURS):
        shocks[:, hour] += memory * shocks[:, hour - 1]
    return shocks


def masks(incidents: list[Incident], shape: tuple[int, ...]) -> list[tuple[Incident, tuple[object, ...]]]:
    axis = {"team": 0, "model": 1}
    found = []
    for each in incidents:
        place: list[object] = [slice(None)] * 3 + [slice(each.start, min(each.end, shape[3]))]
        if each.part != "all":
            place[axis[each.part]] = each.value
        found.append((each, tuple(place)))
    return found


def simulate(rng: np.random.Generator, incidents: list[Incident], requests_per_day: int) -> dict[str, HourlySums]:
    """Sums by measure; cells are team x model x task x hour."""
    share = TEAMS[:, None, None] * MODELS[None, :, None] * TASKS[None, None, :]
    days = np.exp(rng.normal(0, 0.05, HOURS // 24)).repeat(24)
    growth = np.exp(np.arange(HOURS) / HOURS_PER_WEEK * rng.normal(0.01, 0.01))
    hourly = requests_per_day / 24 * np.tile(profile(), HOURS // HOURS_PER_WEEK) * days * growth
    volume = share[..., None] * hourly * np.exp(wander(rng, len(TEAMS), 0.08, 0.5))[:, None, None, :]
    price = np.broadcast_to(PRICE[None, :, None, None], volume.shape).copy()
    slow = np.broadcast_to((LATENCY_MU[:, None] + wander(rng, len(MODELS), 0.06, 0.8))[None, :, None, :], volume.shape).copy()
    failing = np.broadcast_to((0.01 * np.exp(wander(rng, len(MODELS), 0.4, 0.7)))[None, :, None, :], volume.shape).copy()
    good = np.broadcast_to((QUALITY[:, None] + wander(rng, len(MODELS), 0.005, 0.9))[None, :, None, :], volume.shape).copy()
    for each, place in masks(incidents, volume.shape):
        if each.kind == "silence":
            volume[place] = 0.0
        elif each.kind == "cost":
            (volume if each.by_volume else price)[place] *= each.size
        elif each.kind == "latency":
            slow[place] += np.log(each.size)
        elif each.kind == "quality":
            good[place] -= each.size
        else:
            failing[place] += each.size
    n = rng.poisson(volume).astype(float)
    failed = rng.binomial(n.astype(int), np.clip(failing, 0, 1)).astype(float)
    done = n - failed
    scored = rng.binomial(done.astype(int), LABELLED).astype(float)
    return {
        "cost": summed(n, *cost_sums(rng, n, price)),
        "latency": summed(done, *normal_sums(rng, done, slow, LATENCY_SIGMA)),
        "failures": summed(n, failed, failed),
        "quality": summed(scored, *normal_sums(rng, scored, good, QUALITY_SD)),
    }


def cost_sums(rng: np.random.Generator, n: np.ndarray, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of n lognormal costs and of their squares, by lognormals of the same two moments (Fenton 1960), falling and rising together."""
    common = rng.standard_normal(n.shape)
    sums = []
    for power in (1, 2):
        sigma = TOKEN_SIGMA * power
        relative = (np.exp(sigma**2) - 1) / np.maximum(n, 1)
        spread = np.sqrt(np.log1p(relative))
        mean = n * price**power * np.exp(power * (power - 1) / 2 * TOKEN_SIGMA**2)
        sums.append(mean * np.exp(spread * common - spread**2 / 2))
    return sums[0], np.maximum(sums[1], sums[0] ** 2 / np.maximum(n, 1))


def normal_sums(rng: np.random.Generator, n: np.ndarray, mean: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    total = n * mean + np.sqrt(n) * sd * rng.standard_normal(n.shape)
    rest = np.where(n > 1, sd**2 * rng.chisquare(np.maximum(n - 1, 1)), 0.0)
    return total, total**2 / np.maximum(n, 1) + rest


def summed(*cells: np.ndarray) -> HourlySums:
    series = [Series("all", "")]
    parts = [[each.sum(axis=(0, 1, 2))[None] for each in cells]]
    for dimension, axes in (("team", (1, 2)), ("model", (0, 2)), ("task", (0, 1))):
        sums = [each.sum(axis=axes) for each in cells]
        series += [Series(dimension, str(number)) for number in range(len(sums[0]))]
        parts.append(sums)
    count, total, squares = (np.concatenate(each) for each in zip(*parts, strict=True))
    return HourlySums(0, tuple(series), count, total, squares)


def told(sums: dict[str, HourlySums]) -> list[tuple[str, int, bool]]:
    """(sensor, hour, whether it was told before and has grown) of every alert of the quarter."""
    measures = {
        "cost_spike": {"cost": cost_measure(THRESHOLDS)},
        "latency_spike": {"latency": latency_measure(THRESHOLDS)},
        "quality_drop": {"quality": quality_measure(THRESHOLDS), "failures": failure_measure(THRESHOLDS)},
    }
    alerts = []
    for sensor, of in measures.items():
        sizes, lows = [], []
        for name, measure in of.items():
            detections = detect(sums[name], measure, THRESHOLDS.baseline_weeks, THRESHOLDS.false_alerts_per_month)
            size = np.where(detections.is_alarm, detections.size, -np.inf).reshape(-1, HOURS)
            at = np.argmax(size, axis=0)
            sizes.append(size[at, np.arange(HOURS)])
            lows.append(detections.size_low.reshape(-1, HOURS)[at, np.arange(HOURS)])
        best = np.argmax(sizes, axis=0)
        size, low = (np.take_along_axis(np.array(each), best[None], axis=0)[0] for each in (sizes, lows))
        memory = Memory()
        for hour in range(WARM_UP_WEEKS * HOURS_PER_WEEK, HOURS):
            memory, is_news = memory.after(hour, float(size[hour]) if np.isfinite(size[hour]) else None, float(low[hour]))
            if is_news:
                alerts.append((sensor, hour, memory.incident is not None and memory.incident.told > 1))
    return alerts + silent(sums["cost"])


def silent(sums: HourlySums) -> list[tuple[str, int, bool]]:
    alerts, memory = [], SilenceMemory()
    watched = [place for place, series in enumerate(sums.series) if series.dimension in {"all", "team"}]
    for hour in range(WARM_UP_WEEKS * HOURS_PER_WEEK, HOURS):
        if (sums.count[watched, hour] > 0).all() and not memory.told:
            continue
        seen = HourlySums(
            hour + 1 - 6 * HOURS_PER_WEEK,
            sums.series,
            *(each[:, hour + 1 - 6 * HOURS_PER_WEEK : hour + 1] for each in (sums.count, sums.total, sums.squares)),
        )
        memory, news = memory.after(silences(seen, hour + 1, THRESHOLDS.baseline_weeks, THRESHOLDS.false_alerts_per_month))
        if news:
            alerts.append(("silent_feed", hour, False))
    return alerts


class Score:
    """Counts over all quarters."""

    def __init__(self) -> None:
        self.delays: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.planted: Counter[tuple[str, str]] = Counter()
        self.false: Counter[str] = Counter()
        self.true: Counter[str] = Counter()
        self.raised_again = self.consequences = 0

    def add(self, incidents: list[Incident], alerts: list[tuple[str, int, bool]]) -> None:
        open_ = {id(each): each for each in incidents}
        for each in incidents:
            self.planted[self.key(each)] += 1
        for sensor, hour, is_again in alerts:
            of = [each for each in incidents if SENSORS[each.kind] == sensor and each.start <= hour < each.end + AFTER_H]
            moved = [each for each in incidents if each.kind == "cost" and each.by_volume and each.part != "all"]
            if not of and sensor != "cost_spike" and any(each.start <= hour < each.end + AFTER_H for each in moved):
                self.consequences += 1
            elif not of:
                self.false[sensor] += 1
            if not of:
                continue
            self.true[sensor] += 1
            self.raised_again += is_again
            if open_.pop(id(of[0]), None):
                self.delays[self.key(of[0])].append(hour - of[0].start)

    @staticmethod
    def key(incident: Incident) -> tuple[str, str]:
        size = "" if incident.kind in {"quality", "failures", "silence"} else " x2+" if incident.is_large else " x1.5-2"
        return incident.kind + size, "all" if incident.part == "all" else f"one {incident.part}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quarters", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000)
    asked = parser.parse_args()
    score, began = Score(), time.monotonic()
    for quarter in range(asked.quarters):
        rng = np.random.default_rng([asked.seed, quarter])
        incidents = planted(rng)
        score.add(incidents, told(simulate(rng, incidents, asked.requests)))
    months = asked.quarters * QUARTER_WEEKS * 7 / MONTH_DAYS
    print(f"{asked.quarters} quarters of {asked.requests:,} requests a day, {time.monotonic() - began:.0f} s")
    print(f"{'planted':24}{'in':12}{'number':>8}{'recall':>8}{'median delay, buckets':>24}")
    for key, number in sorted(score.planted.items()):
        delays = score.delays[key]
        print(f"{key[0]:24}{key[1]:12}{number:8}{len(delays) / number:8.3f}{np.median(delays) if delays else np.nan:24.0f}")
    large = [key for key in score.planted if "x1.5-2" not in key[0]]
    number = sum(score.planted[key] for key in large)
    delays = [delay for key in large for delay in score.delays[key]]
    recall, delay = len(delays) / number, float(np.median(delays)) if delays else np.inf
    false = sum(score.false.values()) / months
    precision = sum(score.true.values()) / max(sum(score.true.values()) + sum(score.false.values()), 1)
    by_sensor = ", ".join(f"{name} {count / months:.2f}" for name, count in sorted(score.false.items()))
    print(f"x2 and above: recall {recall:.3f} (target {TARGET_RECALL}), median delay {delay:.0f} buckets (target {TARGET_DELAY:.0f})")
    print(f"all: precision {precision:.3f}, false alerts a month {false:.2f} (target {TARGET_FALSE:.0f}): {by_sensor or 'none'}")
    print(
        f"told again for growth: {score.raised_again} of {sum(score.true.values())} alerts; consequences of a cost incident: {score.consequences}"
    )
    if recall < TARGET_RECALL or false > TARGET_FALSE or delay > TARGET_DELAY:
        raise SystemExit("a target was missed")


if __name__ == "__main__":
    main()
