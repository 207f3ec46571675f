"""Runs commands from docs/operations.md as they are written there."""

import json
import re

import yaml
from results import expect
from workspace import ROOT, WORK, run

GUIDE = ROOT / "docs" / "operations.md"


def pod(rendered):
    """The pod that the operations guide makes from the streamer's StatefulSet for a command."""
    objects = yaml.safe_load_all(rendered.read_text())
    streamer = next(it for it in objects if it["kind"] == "StatefulSet" and it["metadata"]["name"] == "streamer")
    found = re.findall(r"\| jq '(.*?)' \|", GUIDE.read_text().replace("\n> ", "\n"), re.S)
    expect(len(found) == 1, f"{len(found)} jq programs")
    made = json.loads(run("jq", found[0], text=json.dumps(streamer)))
    container = made["spec"]["containers"][0]
    expect(made["kind"] == "Pod" and made["spec"]["restartPolicy"] == "Never", made)
    expect(container["args"][:3] == ["--config", "/etc/affluent/streamer.toml", "replay"], container["args"])
    expect(not any(name.endswith("Probe") for name in container), f"a probe would end it: {sorted(container)}")
    path = WORK / "replay.yaml"
    path.write_text(yaml.safe_dump(made))
    return path
