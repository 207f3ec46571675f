"""The dashboards as far as they can be judged without Grafana, and every query of panels and rules against data."""

import json
import re
import urllib.parse
import urllib.request

import yaml
from ledger import Failed, eventually, expect
from place import DEPLOY, ROOT

BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
# The overview's first row, from left to right, and where each number of it comes from.
ROW = ["Fetched", "Accepted", "Stored", "Lag", "Freshness", "Dead letters", "Errors"]
NAME = re.compile(r"\b((?:ingester|publisher|streamer)_[a-z_]+)")
# The bundled API makes nobody up who is invalid.
NEVER = {"ingester_users_invalid_total"}
SELECTOR = re.compile(r"\b(?:(?:ingester|publisher|streamer)_[a-z_]+|up)(?:\{[^}]*\})?")


def check_files(ledger):
    for path in BOARDS:
        with ledger.check(f"dashboard {path.name}"):
            lint(json.loads(path.read_text()))
    with ledger.check("dashboards have names of their own"):
        names = [json.loads(path.read_text())["uid"] for path in BOARDS]
        expect(len(names) == len(set(names)) == 4, names)
    with ledger.check("the overview reads from left to right like the pipeline"):
        panels = json.loads((DEPLOY / "grafana" / "dashboards" / "overview.json").read_text())["panels"]
        row = sorted((panel["gridPos"]["x"], panel["title"]) for panel in panels if panel["gridPos"]["y"] == 0)
        expect([title for _, title in row] == ROW, row)
    with ledger.check("panels and alerts name metrics that the manuals know"):
        known = metrics()
        for expression in [*expressions(), *(rule["expr"] for rule in alerts())]:
            for name in NAME.findall(expression):
                expect(name in known, f"{name} of {expression}")
    with ledger.check("each alert has its runbook and its test"):
        fires, quiet = tested()
        for rule in alerts():
            page = ROOT / rule["annotations"]["runbook_url"]
            expect(page.is_file(), f"no page {page}")
            text = page.read_text()
            for part in ["## What it means", "## What to look at", "## What to do"]:
                expect(part in text, f"{page.name} has no part {part}")
            expect(rule["alert"] in fires, f"{rule['alert']}: no test in which it fires")
            expect(rule["alert"] in quiet, f"{rule['alert']}: no test in which it does not")
        expect(fires | quiet <= {rule["alert"] for rule in alerts()}, "a test of an alert that is none")
    with ledger.check("the cluster's PrometheusRule is what compose's Prometheus goes by"):
        rule = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/prometheus-rule.yaml").read_text())
        groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
        expect(rule["spec"]["groups"] == groups, "copy `groups` of prometheus/rules to it")


def lint(board):
    expect(board["uid"].startswith("affluent-") and board["title"] and board["panels"], "no name or no panels")
    ids = [panel["id"] for panel in board["panels"]]
    expect(len(ids) == len(set(ids)), "panels share an id")
    taken = set()
    for panel in board["panels"]:
        title = panel["title"]
        expect(panel["description"].endswith("."), f"{title}: no description")
        expect(panel["datasource"]["uid"] == "prometheus", f"{title}: another data source")
        expect(panel["fieldConfig"]["defaults"]["unit"], f"{title}: no unit")
        expect(panel["targets"], f"{title}: no query")
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        expect(place["x"] + place["w"] <= 24 and not cells & taken, f"{title}: lies over another or beyond the edge")
        taken |= cells


def expressions():
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def metrics():
    """Every name that a query may use, by the tables of the manuals, which tests hold against the code."""
    found = set()
    for service in ["ingester", "publisher", "streamer"]:
        manual = (ROOT / "crates" / service / "README.md").read_text()
        for name in re.findall(rf"^\| `({service}_[a-z_]+)", manual, re.M):
            found |= {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return found


def alerts():
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def tested():
    """The alerts that the tests of the rules expect to fire, and those that they expect not to."""
    fires, quiet = set(), set()
    for path in (DEPLOY / "prometheus" / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for each in test["alert_rule_test"]:
                (fires if each.get("exp_alerts") else quiet).add(each["alertname"])
    return fires, quiet


def check_queries(ledger, prometheus):
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            with ledger.check(f"{path.stem} / {panel['title']}: its queries give data"):
                for target in panel["targets"]:
                    gives_data(prometheus, target["expr"])
                    # A 0 in place of what is missing would be data for a metric that nobody counts.
                    for name in set(NAME.findall(target["expr"])) - NEVER:
                        gives_data(prometheus, name)
    for rule in alerts():
        with ledger.check(f"{rule['alert']}: runs, and what it is made of gives data"):
            # In order there is nothing to alert of, so the result may be empty; its parts may not.
            query(prometheus, rule["expr"])
            for selector in set(SELECTOR.findall(rule["expr"])):
                gives_data(prometheus, selector)
    with ledger.check("Prometheus has loaded the rules, and reaches each service"):
        groups = ask(f"{prometheus}/api/v1/rules")["groups"]
        loaded = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"]
        expect(sorted(loaded) == sorted(rule["alert"] for rule in alerts()), loaded)
        expect(len(query(prometheus, "up == 1")) == 3, "a target is down")


def gives_data(prometheus, expression):
    """At least one number: a share of nothing is none."""

    def numbers():
        return [series for series in query(prometheus, expression) if series["value"][1] != "NaN"]

    eventually(f"data for {expression}", numbers, 90, pause=3)


def query(prometheus, expression):
    return ask(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["result"]


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except OSError as error:
        raise Failed(f"{url}: {error}") from error
