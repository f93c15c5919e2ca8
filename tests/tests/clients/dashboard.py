#!/usr/bin/python3
"""Draws deploy/grafana/punchline.json without Grafana, for a look at it: `dashboard.py PROMETHEUS-URL MINUTES > page.html`.

It asks a Prometheus for what each panel asks for, over the last minutes, and draws title, unit, legend and series about where
Grafana would. It is not Grafana: colours, axes and what Grafana does besides are not looked at, and it knows only the kinds
of panels that the dashboard has. On standard error it says which panels are empty. It fails if a query does, if a panel has
more series than a legend can hold, or if a legend names a label that its series do not have. The page is static:
`chromium --headless --screenshot` takes a picture.
"""

import html
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

BOARD = pathlib.Path(__file__).parents[3] / "deploy/grafana/punchline.json"
WINDOW = "1m"
# More do not fit below a panel.
LEGEND_MAX = 12
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#37872d", "#fa6400",
           "#1f60c4", "#e02f44"]

STYLE = """
body { background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 12px; width: 1560px; }
.board { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 30px; gap: 8px; }
.panel { background: #181b1f; border: 1px solid #2c3235; border-radius: 2px; padding: 6px 8px; overflow: hidden; }
.row { font-size: 15px; font-weight: 600; padding-top: 8px; }
h2 { font-size: 13px; margin: 0 0 4px; font-weight: 500; }
.legend { display: flex; flex-wrap: wrap; gap: 0 12px; }
.key { display: inline-block; width: 12px; height: 3px; margin-right: 5px; vertical-align: middle; }
.stat { display: flex; flex-wrap: wrap; gap: 10px; justify-content: space-around; text-align: center; margin-top: 18px; }
.stat b { display: block; font-size: 24px; }
.none { color: #8e8e9e; text-align: center; margin-top: 40px; }
svg text { fill: #8e8e9e; font-size: 10px; }
"""


def ask(prometheus, query, seconds):
    """The series of a query over so many seconds: [(labels, [(time, value)])]."""
    end = time.time()
    asked = {"query": query, "start": end - seconds, "end": end, "step": 2}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        result = json.load(answer)["data"]["result"]
    values = [[(at, float(value)) for at, value in series["values"]] for series in result]
    return [(series["metric"], points) for series, points in zip(result, values)]


def series_of(prometheus, panel, seconds):
    """What a panel shows: [(legend, [(time, value)])]."""
    found = []
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", WINDOW).replace("$__range", f"{seconds}s")
        for labels, points in ask(prometheus, query.replace("$instance", ".*"), seconds):
            legend = re.sub(r"{{(.*?)}}", lambda match: labels[match[1].strip()], target["legendFormat"])
            found.append((legend, [point for point in points if math.isfinite(point[1])]))
    return found


def said(value, unit):
    """A value with its unit, as Grafana says it."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        if value == 0 or abs(value) >= 1:
            return f"{value / 60:.3g} min" if value >= 60 else f"{value:.3g} s"
        return f"{value * 1e3:.3g} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.3g} µs"
    ending = {"Bps": "B/s", "cpm": "/min"}.get(unit, "")
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}{ending}"
    return f"{value:.3g} {ending}".strip()


def mapped(value, panel, unit):
    """The word and the colour that a panel has for a value."""
    defaults = panel["fieldConfig"]["defaults"]
    colour = "#73bf69"
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    for mapping in defaults.get("mappings", []):
        option = mapping.get("options", {}).get(f"{value:g}")
        if option:
            return option.get("text", f"{value:g}"), option.get("color", colour)
    return said(value, unit), colour


def stat(panel, series, unit):
    parts = []
    for legend, points in series:
        if points:
            text, colour = mapped(points[-1][1], panel, unit)
            parts.append(f'<div><b style="color:{colour}">{html.escape(text)}</b>{html.escape(legend)}</div>')
    return f'<div class="stat">{"".join(parts)}</div>'


def curves(series, unit, width, height, span):
    """The lines of a panel, with the highest value and its half at the left."""
    points = [point for _, line in series for point in line]
    last = max(at for at, _ in points)
    top = max(value for _, value in points) * 1.05 or 1
    left, bottom = 52, height - 14
    x = lambda at: left + (width - left) * (1 - (last - at) / span)
    y = lambda value: bottom - (bottom - 6) * value / top
    parts = []
    for part in (0, 0.5, 1):
        at = y(top / 1.05 * part)
        parts.append(f'<line x1="{left}" x2="{width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#2c3235"/>')
        parts.append(f'<text x="0" y="{at + 3:.1f}">{said(top / 1.05 * part, unit)}</text>')
    for number, (_, line) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        # A value that stands alone is a point.
        if len(line) == 1:
            parts.append(f'<circle cx="{x(line[0][0]):.1f}" cy="{y(line[0][1]):.1f}" r="2" fill="{colour}"/>')
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    for part, anchor in ((0, "start"), (1, "end")):
        clock = time.strftime("%H:%M:%S", time.localtime(last - span * (1 - part)))
        parts.append(f'<text x="{left + (width - left) * part}" y="{height - 2}" text-anchor="{anchor}">{clock}</text>')
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def timeseries(series, unit, width, height, span):
    keys = []
    for number, (legend, line) in enumerate(series):
        value = f" {said(line[-1][1], unit)}" if line else ""
        colour = COLOURS[number % len(COLOURS)]
        keys.append(f'<span><i class="key" style="background:{colour}"></i>{html.escape(legend + value)}</span>')
    legend = f'<div class="legend">{"".join(keys)}</div>'
    rows = -(-sum(len(name) * 6 + 40 for name, _ in series) // width)
    return curves(series, unit, width, max(height - 16 * rows, 40), span) + legend


def drawn(prometheus, panel, seconds):
    place = panel["gridPos"]
    area = f'grid-column:{place["x"] + 1}/span {place["w"]};grid-row:{place["y"] + 1}/span {place["h"]}'
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class="row" style="{area}">{title}</div>'
    series = series_of(prometheus, panel, seconds)
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    if not any(line for _, line in series):
        print(f"{panel['title']}: nothing", file=sys.stderr)
        inside = '<p class="none">No data</p>'
    elif panel["type"] == "stat":
        inside = stat(panel, series, unit)
    else:
        if len(series) > LEGEND_MAX:
            raise SystemExit(f"{panel['title']}: {len(series)} series are more than a legend can hold")
        inside = timeseries(series, unit, place["w"] * 65 - 30, place["h"] * 38 - 46, seconds)
    return f'<div class="panel" style="{area}"><h2>{title}</h2>{inside}</div>'


def main():
    prometheus, minutes = sys.argv[1].rstrip("/"), float(sys.argv[2])
    panels = json.loads(BOARD.read_text())["panels"]
    parts = [drawn(prometheus, panel, int(minutes * 60)) for panel in panels]
    print(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><div class="board">{"".join(parts)}</div>')


main()
