"""What docs/operations.md has people type, done here by its own words."""

import json
import re

import yaml
from ledger import expect
from place import ROOT, WORK, run

MANUAL = ROOT / "docs" / "operations.md"


def pod(rendered):
    """The pod that the manual makes of the streamer's StatefulSet for a command by hand."""
    objects = yaml.safe_load_all(rendered.read_text())
    streamer = next(it for it in objects if it["kind"] == "StatefulSet" and it["metadata"]["name"] == "streamer")
    found = re.findall(r"\| jq '(.*?)' \|", MANUAL.read_text().replace("\n> ", "\n"), re.S)
    expect(len(found) == 1, f"{len(found)} programs of jq")
    made = json.loads(run("jq", found[0], text=json.dumps(streamer)))
    container = made["spec"]["containers"][0]
    expect(made["kind"] == "Pod" and made["spec"]["restartPolicy"] == "Never", made)
    expect(container["args"][:3] == ["--config", "/etc/affluent/streamer.toml", "replay"], container["args"])
    expect(not any(name.endswith("Probe") for name in container), f"it would be ended by a probe: {sorted(container)}")
    path = WORK / "replay.yaml"
    path.write_text(yaml.safe_dump(made))
    return path
