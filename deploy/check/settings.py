"""Checks the committed configurations with the services' --check-config."""

import os

from workspace import WORK, run


def accepts(service, path, binaries, variables=None, accept=(0,)):
    """Runs --check-config with a dummy file for each secret."""
    secret = WORK / "secret"
    secret.write_text("a-trial\n")
    lines = [
        f'{line.split(" = ")[0]} = "{secret}"' if "_file = " in line else line for line in path.read_text().splitlines()
    ]
    copy = WORK / f"{service}.toml"
    copy.write_text("\n".join(lines))
    # A clean environment, since variables override the file.
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    words = ["env", "--ignore-environment", f"PATH={os.environ['PATH']}", *given]
    run(*words, binaries / service, "--config", copy, "--check-config", accept=accept)
