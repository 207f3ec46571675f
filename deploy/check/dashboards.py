"""Checks dashboards without Grafana, and runs every query of panels and rules on data."""

import json
import re
import urllib.parse
import urllib.request

import yaml
from results import Failed, eventually, expect
from workspace import DEPLOY, ROOT

BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
# The overview's first row, from left to right.
ROW = ["Fetched", "Accepted", "Stored", "Lag", "Freshness", "Dead letters", "Errors"]
NAME = re.compile(r"\b((?:ingester|publisher|streamer)_[a-z_]+)")
# The bundled API generates no invalid users, and no run loses records.
NEVER = {"ingester_users_invalid_total", 'ingester_verdicts_total{verdict="violated"}'}
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}
SELECTOR = re.compile(r"\b(?:(?:ingester|publisher|streamer)_[a-z_]+|process_[a-z_]+|up\b)(?:\{[^}]*\})?")


def check_files(results):
    for path in BOARDS:
        with results.check(f"dashboard {path.name}"):
            lint(json.loads(path.read_text()))
    with results.check("dashboards have unique ids"):
        names = [json.loads(path.read_text())["uid"] for path in BOARDS]
        expect(len(names) == len(set(names)) == 4, names)
    with results.check("the overview follows the pipeline from left to right"):
        panels = json.loads((DEPLOY / "grafana" / "dashboards" / "overview.json").read_text())["panels"]
        row = sorted((panel["gridPos"]["x"], panel["title"]) for panel in panels if panel["gridPos"]["y"] == 0)
        expect([title for _, title in row] == ROW, row)
    with results.check("panels and alerts use documented metrics"):
        known = metrics()
        for expression in [*expressions(), *(rule["expr"] for rule in alerts())]:
            for name in NAME.findall(expression):
                expect(name in known, f"{name} of {expression}")
    with results.check("each alert has a runbook and a test"):
        fires, quiet = tested()
        for rule in alerts():
            page = ROOT / rule["annotations"]["runbook_url"]
            expect(page.is_file(), f"no page {page}")
            text = page.read_text()
            for part in ["## Meaning", "## Diagnosis", "## Remedy"]:
                expect(part in text, f"{page.name} has no part {part}")
            expect(rule["alert"] in fires, f"{rule['alert']}: no test where it fires")
            expect(rule["alert"] in quiet, f"{rule['alert']}: no test where it is silent")
        expect(fires | quiet <= {rule["alert"] for rule in alerts()}, "a test of an unknown alert")
    with results.check("the PrometheusRule equals the rules of Compose's Prometheus"):
        rule = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/prometheus-rule.yaml").read_text())
        groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
        expect(rule["spec"]["groups"] == groups, "copy `groups` of prometheus/rules to it")


def lint(board):
    expect(board["uid"].startswith("affluent-") and board["title"] and board["panels"], "no title or no panels")
    variables = {each["name"]: each["type"] for each in board["templating"]["list"]}
    expect(variables == {"datasource": "datasource", "instance": "query"}, variables)
    ids = [panel["id"] for panel in board["panels"]]
    expect(len(ids) == len(set(ids)), "panels share an id")
    taken = set()
    for panel in board["panels"]:
        title = panel["title"]
        expect(panel["description"].endswith("."), f"{title}: no description")
        for each in [panel, *panel["targets"]]:
            expect(each["datasource"]["uid"] == "${datasource}", f"{title}: a fixed data source")
        expect(panel["fieldConfig"]["defaults"]["unit"], f"{title}: no unit")
        expect(panel["targets"], f"{title}: no query")
        for query in (target["expr"] for target in panel["targets"]):
            selectors = SELECTOR.findall(query)
            expect(all('instance=~"$instance"' in each for each in selectors), f"{title}: {query} ignores $instance")
            # The data source's interval is 5 s here, and 15 s or more elsewhere.
            expect("[1m]" not in query, f"{title}: {query} has a fixed interval")
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"])
                 for y in range(grid["y"], grid["y"] + grid["h"])}  # fmt: skip
        expect(grid["x"] + grid["w"] <= 24 and not cells & taken, f"{title}: overlaps another panel or the edge")
        taken |= cells


def expressions():
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield from map(in_grafana, panel["targets"])


def in_grafana(target):
    """The query with all variables replaced."""
    query = target["expr"]
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def metrics():
    """Every metric of the services' READMEs, whose tables are checked against the code."""
    found = set()
    for service in ["ingester", "publisher", "streamer"]:
        readme = (ROOT / "crates" / service / "README.md").read_text()
        for name in re.findall(rf"^\| `({service}_[a-z_]+)", readme, re.M):
            found |= {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return found


def alerts():
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def tested():
    """The alerts that the tests expect to fire, and those that they expect to be silent."""
    fires, quiet = set(), set()
    for path in (DEPLOY / "prometheus" / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for each in test["alert_rule_test"]:
                (fires if each.get("exp_alerts") else quiet).add(each["alertname"])
    return fires, quiet


def check_queries(results, prometheus):
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            with results.check(f"{path.stem} / {panel['title']}: its queries return data"):
                for expression in map(in_grafana, panel["targets"]):
                    gives_data(prometheus, expression)
                    # `or vector(0)` returns data even for an unknown metric.
                    for name in set(NAME.findall(expression)) - NEVER:
                        gives_data(prometheus, name)
    for rule in alerts():
        with results.check(f"{rule['alert']}: runs, and its selectors return data"):
            # A silent alert has an empty result; its selectors must have data.
            query(prometheus, rule["expr"])
            for selector in set(SELECTOR.findall(rule["expr"])) - NEVER:
                gives_data(prometheus, selector)
    with results.check("Prometheus has loaded the rules and scrapes each service"):
        groups = fetch(f"{prometheus}/api/v1/rules")["groups"]
        loaded = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"]
        expect(sorted(loaded) == sorted(rule["alert"] for rule in alerts()), loaded)
        expect(len(query(prometheus, "up == 1")) == 3, "a target is down")


def gives_data(prometheus, expression):
    """Waits for at least one number that is not NaN."""

    def numbers():
        return [series for series in query(prometheus, expression) if series["value"][1] != "NaN"]

    eventually(f"data for {expression}", numbers, 90, pause=3)


def query(prometheus, expression):
    return fetch(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["result"]


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]
    except OSError as error:
        raise Failed(f"{url}: {error}") from error
