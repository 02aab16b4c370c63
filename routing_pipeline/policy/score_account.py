"""What is told of how scores were counted: those of the last hours, those of one user, team or source, users whose errors hang together, and a judge's.

Belongs here: the result and its sentences. Does not belong here: what is decided (`policy.window_scores`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, quantity
from routing_pipeline.text import LogName

Giver = Literal["user", "team", "source"]
"""Of whom it is told how much of the scores they gave."""


class JudgeBias(Result):
    """By how much a judge scores the answers of a model, or of a family of models, higher than trusted sources do."""

    name: LogName
    answers: int = quantity("That both scored", "answers")
    bias: Measured = quantity("Judge less trusted score; positive: the judge favours it", "0..1")


class JudgeCheck(Result):
    """A judge beside trusted scores, from the answers that both scored. Its bias is taken out of every estimate."""

    judged: int = quantity("Answers that the judge scored", "answers")
    trusted: int = quantity("Answers that a trusted source scored", "answers")
    both: int = quantity("Answers that both scored", "answers")
    is_used: bool = quantity("Whether the judge's scores sharpen the estimates; too few of either kind, and they do not", "1")
    correlation: float | None = quantity("Between the two scores; null where one of them is always the same", "1", default=None)
    by_model: tuple[JudgeBias, ...] = ()
    by_family: tuple[JudgeBias, ...] = ()

    @property
    def told(self) -> str:
        """In a few plain sentences."""
        words = f"A judge scored {self.judged:,} answers, trusted sources {self.trusted:,}, both of them {self.both:,}."
        if not self.is_used:
            return f"{words} That is too few of both for the judge to help, so only trusted scores count."
        words += " Quality is what trusted sources say. The judge's scores only narrow the intervals, with its favours taken out."
        off = [each for each in self.by_model if isinstance(each.bias, Estimate) and (each.bias.low > 0 or each.bias.high < 0)]
        for each in sorted(off, key=lambda other: -abs(_size(other.bias)))[:1]:
            words += f" It is furthest off for {each.name}: {100 * _size(each.bias):+.1f} points."
        return words


def _size(measured: Measured) -> float:
    return measured.estimate if isinstance(measured, Estimate) else 0.0


class LateTail(Result):
    """The last hours of the window, whose answers are scored less than the others: their scores do not count."""

    start: datetime = Field(description="UTC")
    usual_share: float = quantity("Of older answers, that are scored", "0..1")
    late_share: float = quantity("Of answers from then on", "0..1")
    scores: int = quantity("Scores of answers from then on, which do not count", "scores")


class ScoreInfluence(Result):
    """Whoever gave a large share of the scores."""

    by: Giver
    name: LogName | None = Field(default=None, description="Of the team or source; users are not named")
    share: float = quantity("Of all scores", "0..1")
    counted_share: float = quantity("Of the scores that count", "0..1")


class UserClusters(Result):
    """Whether users' sessions hang together."""

    users: int = quantity("With a score", "users")
    ratio: float = quantity("Variance of mean quality by user, over that by session", "1")
    correlation: float = quantity("Between scores of one user, beyond task and model", "1")
    is_used: bool = quantity("Whether users, and not sessions, are what errors are clustered by", "1")


class ScoreAccount(Result):
    """How the window's scores were counted."""

    late: LateTail | None = Field(default=None, description="Null where the last hours are scored like the rest")
    influence: tuple[ScoreInfluence, ...] = ()
    users: UserClusters | None = Field(
        default=None, description="Null where users or sessions are not logged, or too few answers are scored"
    )
    judge: JudgeCheck | None = Field(default=None, description="Null where one kind of score is all there is")

    @property
    def told(self) -> tuple[str, ...]:
        """What a reader should know, a sentence or two for each."""
        words = []
        if self.judge is not None:
            words.append(self.judge.told)
        if self.late is not None:
            words.append(
                f"Answers since {self.late.start:%Y-%m-%d %H:%M} UTC are scored less than the others: {100 * self.late.late_share:.2g} % "
                f"against {100 * self.late.usual_share:.2g} %. Scores that come first are not like those that come later, so the "
                f"{self.late.scores:,} that are there do not count."
            )
        words += self._heavy()
        if self.users is not None and self.users.is_used:
            words.append(
                f"Scores of one user resemble each other, so intervals take the {self.users.users:,} users, and not sessions, as independent: "
                f"the variance is {self.users.ratio:.1f} times as large."
            )
        return tuple(words)

    def _heavy(self) -> list[str]:
        words = []
        users = [each for each in self.influence if each.by == "user"]
        if users:
            who = "One user" if len(users) == 1 else f"{len(users)} users"
            given, counted = sum(each.share for each in users), sum(each.counted_share for each in users)
            words.append(f"{who} gave {100 * given:.0f} % of the scores; {_counts(given, counted)}.")
        # One team often has most of the traffic, and one source most of the scores; that is news where it was limited.
        others = [each for each in self.influence if each.by != "user" and each.counted_share < each.share - 0.005]
        return words + [
            f"{each.by.capitalize()} {each.name} gave {100 * each.share:.0f} % of the scores; {_counts(each.share, each.counted_share)}."
            for each in others
        ]


def _counts(given: float, counted: float) -> str:
    return f"they count for {100 * counted:.0f} %" if counted < given - 0.005 else "all of them count"
