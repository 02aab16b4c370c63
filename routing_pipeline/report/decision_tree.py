"""The rule set as a picture: a decision tree, as SVG and as Mermaid.

Belongs here: from rules to a tree, and the two drawings of it, each with every name made safe for its language. Does not
belong here: charts of numbers (`charts`), a rule in words (`rule_sentences`).

Where all conditions are on the task and on one further number, tasks with the same answers share a branch and the number's
ranges follow; any other set is drawn as what it is, a list of questions of which the first yes decides.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import markupsafe

from routing_pipeline import text as wording
from routing_pipeline.report import rule_sentences
from routing_pipeline.rules.model import NEEDS, Between, Rule, RuleSet, When

OWN_CHOICE = "the gateway's own choice"
MAX_LEAVES = 24
"""A larger picture helps nobody; the table of rules has them all."""
LABEL = 34
Axis = Literal["complexity", "prompt_tokens"]
_AXIS_NAMES: dict[Axis, str] = {"complexity": "complexity?", "prompt_tokens": "prompt tokens?"}


@dataclass(frozen=True)
class Node:
    """A question with its answers, or (no branches) where requests go; `is_ours` where one of our rules decides."""

    label: str
    branches: tuple[tuple[str, Node], ...] = ()
    is_ours: bool = False

    @property
    def leaves(self) -> int:
        """Ends of this branch."""
        return sum(node.leaves for _, node in self.branches) or 1


@dataclass(frozen=True)
class Picture:
    """The tree for both documents: SVG with its text alternative, and Mermaid source."""

    svg: str
    mermaid: str
    text: str


def picture(rule_set: RuleSet) -> Picture | None:
    """The rule set drawn; None when there is nothing to draw, or more than a page can hold."""
    tree = tree_of(rule_set)
    if tree is None or tree.leaves > MAX_LEAVES:
        return None
    return Picture(svg(tree), mermaid(tree), in_words(tree))


def tree_of(rule_set: RuleSet) -> Node | None:
    """The tree that decides as the rules do; None without rules."""
    ordered = sorted(rule_set.rules, key=lambda rule: rule.priority)
    if not ordered:
        return None
    axes: set[Axis] = {axis for rule in ordered for axis in _axes(rule.when)}
    if len(axes) > 1 or any(getattr(rule.when, name) is not None for rule in ordered for name in ("team", "tier", *NEEDS)):
        return _questions(ordered)
    return _by_task(ordered, next(iter(axes), None))


def _axes(when: When) -> Iterator[Axis]:
    if when.complexity is not None:
        yield "complexity"
    if when.prompt_tokens is not None:
        yield "prompt_tokens"


def _leaf(rule: Rule | None) -> Node:
    if rule is None or rule.route == "unchanged":
        return Node(OWN_CHOICE)
    models = [
        wording.name(target.model, LABEL) + (f" {wording.percent(target.weight)}" if len(rule.route) > 1 else "") for target in rule.route
    ]
    return Node(" / ".join(models), is_ours=True)


def _questions(ordered: Sequence[Rule]) -> Node:
    """First yes decides."""
    node = Node(OWN_CHOICE)
    for rule in reversed(ordered):
        asked = wording.name(rule_sentences.as_text(rule_sentences.requests(rule.when)), 2 * LABEL)
        node = Node(f"{asked}?", (("yes", _leaf(rule)), ("no", node)))
    return node


def _by_task(ordered: Sequence[Rule], axis: Axis | None) -> Node:
    tasks = list(dict.fromkeys(task for rule in ordered for task in rule.when.task_type or ()))
    groups: dict[Node, list[str]] = {}
    for task in tasks:
        groups.setdefault(
            _ranges([rule for rule in ordered if rule.when.task_type is None or task in rule.when.task_type], axis), []
        ).append(task)
    rest = _ranges([rule for rule in ordered if rule.when.task_type is None], axis)
    if not tasks:
        return rest
    branches = [(wording.listed(named, 3), node) for node, named in groups.items()]
    return Node("task type?", (*branches, ("any other", rest)))


def _ranges(rules: Sequence[Rule], axis: Axis | None) -> Node:
    """What these rules decide along the axis, neighbours of one answer joined."""
    edges: list[float] = sorted({edge for rule in rules for edge in _edges(_range(rule, axis))})
    bounds = [None, *edges, None]
    found: list[tuple[Between, Node]] = []
    for low, high in itertools.pairwise(bounds):
        node = _leaf(next((rule for rule in rules if _covers(_range(rule, axis), low, high)), None))
        if found and found[-1][1] == node:
            found[-1] = (Between(gte=found[-1][0].gte, lt=high), node)
        else:
            found.append((Between(gte=low, lt=high), node))
    if len(found) == 1 or axis is None:
        return found[0][1]
    return Node(_AXIS_NAMES[axis], tuple((_said(between), node) for between, node in found))


def _range(rule: Rule, axis: Axis | None) -> Between | None:
    found: Between | None = None if axis is None else getattr(rule.when, axis)
    return found


def _edges(between: Between | None) -> Iterator[float]:
    if between is not None:
        yield from (edge for edge in (between.gte, between.lt) if edge is not None)


def _covers(between: Between | None, low: float | None, high: float | None) -> bool:
    if between is None:
        return True
    above = between.gte is None or (low is not None and low >= between.gte)
    return above and (between.lt is None or (high is not None and high <= between.lt))


def _said(between: Between) -> str:
    if between.gte is not None and between.lt is not None:
        return f"{between.gte:,g} to under {between.lt:,g}"
    return f"{between.gte:,g} or more" if between.gte is not None else f"under {between.lt:,g}"


def in_words(node: Node) -> str:
    """The text alternative: every way through the tree."""
    ways = [f"{' and '.join(asked)} goes to {end}" for asked, end in _ways(node, ())]
    return f"Decision tree of {len(ways)} ends. " + "; ".join(ways) + "."


def _ways(node: Node, asked: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not node.branches:
        yield asked, node.label
    for answer, below in node.branches:
        yield from _ways(below, (*asked, f"{node.label.rstrip('?')} {answer}"))


# --- Mermaid


def mermaid(tree: Node) -> str:
    """A flow chart for GitHub: names stand in quotes, everything but letters and digits as character codes."""
    lines = ["flowchart LR"]
    count = iter(range(10_000))

    def drawn(node: Node) -> str:
        name = f"n{next(count)}"
        text = _coded(node.label)
        lines.append(f'  {name}["{text}"]' if not node.branches else f'  {name}(["{text}"])')
        if not node.branches:
            lines.append(f"  class {name} {'ours' if node.is_ours else 'own'}")
        for answer, below in node.branches:
            place = len(lines)
            target = drawn(below)
            lines.insert(place, f'  {name} -->|"{_coded(answer)}"| {target}')
        return name

    drawn(tree)
    return "\n".join([*lines, "  classDef ours stroke-width:3px", "  classDef own stroke-dasharray:4"])


def _coded(text: str) -> str:
    """Letters and digits of any script as they are, a few harmless signs too; everything else as #number;."""
    return "".join(each if _is_plain(each) else f"#{ord(each)};" for each in wording.printable(text))


def _is_plain(each: str) -> bool:
    return each in " .,?_" or unicodedata.category(each)[0] in {"L", "N"}


# --- SVG

_BOX_WIDTH, _BOX, _ROW = 172, 32, 46
_WIDEST_ANSWER = 240
_FONT, _SMALL = 12.5, 11.5
_PER_LETTER = 0.5
"""Width of a letter in a common font, of its size."""


@dataclass
class _Drawing:
    left: list[float]
    parts: list[str] = field(default_factory=list)
    next_row: int = 0


def svg(tree: Node) -> str:
    """The same, drawn from left to right; the page's style sheet says in which colours (classes asks, ours, own)."""
    left = [4.0]
    for answers in _answers_by_depth(tree):
        room = max(len(wording.name(answer)) for answer in answers) * _PER_LETTER * _SMALL + 34
        left.append(left[-1] + _BOX_WIDTH + min(max(room, 60.0), _WIDEST_ANSWER))
    drawing = _Drawing(left)
    _draw(drawing, tree, 0)
    width, height = left[-1] + _BOX_WIDTH + 4, drawing.next_row * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" '
        f'font-family="sans-serif" font-size="{_FONT}">{"".join(drawing.parts)}</svg>'
    )


def _answers_by_depth(node: Node) -> list[list[str]]:
    """Answers to the questions of each column, none for the last."""
    if not node.branches:
        return []
    below = [_answers_by_depth(each) for _, each in node.branches]
    deeper = [[answer for column in columns for answer in column] for columns in itertools.zip_longest(*below, fillvalue=[])]
    return [[answer for answer, _ in node.branches], *deeper]


def _draw(drawing: _Drawing, node: Node, depth: int) -> float:
    """Draw a node and what hangs on it; gives the height of its middle."""
    x = drawing.left[depth]
    if not node.branches:
        y = drawing.next_row * _ROW + _ROW / 2
        drawing.next_row += 1
    else:
        below = [(answer, _draw(drawing, each, depth + 1)) for answer, each in node.branches]
        y = (below[0][1] + below[-1][1]) / 2
        for answer, to in below:
            _link(drawing, x + _BOX_WIDTH, y, drawing.left[depth + 1], to, answer)
    kind = "asks" if node.branches else "ours" if node.is_ours else "own"
    drawing.parts.append(
        f'<rect class="{kind}" x="{x:.0f}" y="{y - _BOX / 2:g}" width="{_BOX_WIDTH}" height="{_BOX}" rx="{_BOX / 2 if node.branches else 6:g}"/>'
    )
    drawing.parts.append(_text(x + _BOX_WIDTH / 2, y + _FONT / 3, node.label, _BOX_WIDTH - 8, "middle", _FONT))
    return y


def _link(drawing: _Drawing, x: float, y: float, to_x: float, to_y: float, answer: str) -> None:
    bend = x + 16
    drawing.parts.append(
        f'<path d="M{x:.0f} {y:g}H{bend:.0f}V{to_y:g}H{to_x:.0f}"/>' + _text(bend + 4, to_y - 5, answer, to_x - bend - 8, "start", _SMALL)
    )


def _text(x: float, y: float, text: str, width: float, anchor: str, size: float) -> str:
    """A label no wider than its place; whatever is in it is text."""
    shown = markupsafe.escape(wording.name(text, max(int(width / (_PER_LETTER * size)), 4)))
    return f'<text x="{x:.0f}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}">{shown}</text>'
