"""The same picture in fewer bytes: what all parts of a group share is said once, by the group.

Belongs here: rewriting an SVG that the renderer made into an equal one. Does not belong here: what is drawn (`drawing`), the page's colours
(`palette`).

A presentation attribute that SVG inherits (SVG 2, section 6.6) means the same on each of some siblings and on the group around all of them.
Groups that then say nothing fall away. Places are kept to a tenth of a pixel, sizes under ten to a hundredth.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

INHERITED = (
    *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin"),
    *("font-size", "font-weight", "font-style", "font-family", "text-anchor"),
)
_NUMBER = re.compile(r"-?\d+\.\d+")
_PLACED = re.compile(r"translate\((-?[\d.]+),(-?[\d.]+)\)")
_PLACES = ("transform", "d", "x", "y", "x2", "y2", "width", "height")
_NAMESPACES = re.compile(r' xmlns(?::\w+)?="[^"]*"')


def compact(svg: str) -> str:
    """An SVG that draws the same."""
    opening = svg[: svg.index(">") + 1]
    declared = "".join(_NAMESPACES.findall(opening)) if "xlink:" in svg[len(opening) :] else ' xmlns="http://www.w3.org/2000/svg"'
    bare = _NAMESPACES.sub("", opening) + svg[len(opening) :]
    root = ElementTree.fromstring(bare)  # noqa: S314 - our own renderer's, with every label escaped
    _shared(root)
    for element in root.iter():
        _placed(element)
    text = ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")
    return text.replace("<svg", f"<svg{declared}", 1)


def _shared(element: ElementTree.Element) -> None:
    """What all children say goes to their group, deepest first."""
    for child in element:
        _shared(child)
    _without_empty_groups(element)
    if element.tag != "g" or len(element) == 0:
        return
    for name in INHERITED:
        said = {child.get(name) for child in element}
        if len(said) == 1 and None not in said:
            element.set(name, str(said.pop()))
            for child in element:
                del child.attrib[name]
    _without_empty_groups(element)


def _without_empty_groups(element: ElementTree.Element) -> None:
    element[:] = [part for child in element for part in (child if child.tag == "g" and not child.attrib else [child])]


def _placed(element: ElementTree.Element) -> None:
    """Places in few digits; a label's by its own attributes."""
    for name in _PLACES:
        if name in element.attrib:
            element.set(name, _NUMBER.sub(_short, element.attrib[name]))
    moved = _PLACED.fullmatch(element.get("transform", ""))
    if moved and element.tag == "text" and len(element) == 0 and "x" not in element.attrib and "y" not in element.attrib:
        del element.attrib["transform"]
        element.set("x", moved[1])
        element.set("y", moved[2])


def _short(found: re.Match[str]) -> str:
    number = float(found[0])
    return f"{number:.1f}".removesuffix(".0") if abs(number) >= 10 else f"{number:.2f}".rstrip("0").rstrip(".")
