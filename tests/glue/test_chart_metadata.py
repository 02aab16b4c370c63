"""How the UI shows a chart."""

import base64
import re
from types import SimpleNamespace

from assets import shown

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>'


def test_a_chart_is_shown_as_a_picture_on_white_with_its_words():
    (value,) = shown.chart("mix", SimpleNamespace(text="20 % would change model.", svg=PICTURE), lambda chart: chart.svg).values()
    found = re.fullmatch(r"!\[20 % would change model\.\]\(data:image/svg\+xml;base64,([\w+/=]+)\)", value.md_str)
    assert found
    assert base64.b64decode(found[1]).startswith(b'<svg style="background:#fff" ')
    assert shown.chart("mix", None, lambda chart: chart.svg) == {}


def test_no_name_from_a_log_ends_the_words_of_a_picture():
    for name in ("x](http://evil.example/a.png)", "x\\](http://evil.example/a.png)", "y" * 399 + "\\" + "]("):
        (value,) = shown.chart("mix", SimpleNamespace(text=name, svg=PICTURE), lambda chart: chart.svg).values()
        unescaped = re.sub(r"\\.", "", value.md_str)
        assert unescaped.count("](") == 1
        assert unescaped.index("](data:image/svg+xml") > 0
