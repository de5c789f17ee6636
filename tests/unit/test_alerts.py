"""deploy/alerts.yml, deploy/prometheus.yml and deploy/grafana.json: their structure.

That each metric exists is held against a real scrape in tests/integration/test_metrics.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from onthedot import duration
from tests import promql

DEPLOY = Path(__file__).parents[2] / "deploy"
GROUPS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"]
}
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def test_each_rule_has_a_name_of_its_own() -> None:
    assert len(RULES) == sum(len(group["rules"]) for group in GROUPS) > 10
    assert len({group["name"] for group in GROUPS}) == len(GROUPS)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_is_so_what_it_means_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "meaning", "action"}
    assert all(len(text) > 20 for text in rule["annotations"].values())
    assert duration.parse(rule.get("for", "1m"))
    assert promql.names(rule["expr"])


@pytest.mark.parametrize("name", RULES)
def test_a_label_in_a_text_is_one_that_the_result_keeps(name: str) -> None:
    rule = RULES[name]
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    grouped = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    kept = set(re.split(r",\s*", grouped.group(1))) if grouped else {"instance", "job"}
    assert shown <= kept


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == f"${{{variable['name']}}}"
        assert promql.names(target["expr"])


def test_no_panel_lies_on_another() -> None:
    cells = [
        (x, y)
        for panel in PANELS
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_wanted_labels_are_found_in_an_expression() -> None:
    expression = 'rate(a{b="c", d!~"e", f="g"}[5m]) / h{i=~"j"} - k'
    assert promql.wanted_labels(expression) == {("a", "b", "c"), ("a", "f", "g")}


def test_names_are_found_in_an_expression() -> None:
    expression = 'max by (queue) (rate(a_total{b="c{d"}[5m] offset 1h)) > 2 unless on (e) f:g == 0'
    assert promql.names(expression) == {"a_total", "f:g"}
    with pytest.raises(ValueError, match="do not match"):
        promql.names('rate(a{b="c"}[5m]')
