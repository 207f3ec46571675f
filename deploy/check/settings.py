"""The committed configurations, held against the services that are to take them."""

import os

from place import WORK, run


def accepts(service, path, binaries, variables=None, accept=(0,)):
    """With files in place of the secrets that it names: their content is not what is checked."""
    secret = WORK / "secret"
    secret.write_text("a-trial\n")
    lines = [
        f'{line.split(" = ")[0]} = "{secret}"' if "_file = " in line else line for line in path.read_text().splitlines()
    ]
    copy = WORK / f"{service}.toml"
    copy.write_text("\n".join(lines))
    # Nothing of the environment but what is given: it would go over the file.
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    words = ["env", "--ignore-environment", f"PATH={os.environ['PATH']}", *given]
    run(*words, binaries / service, "--config", copy, "--check-config", accept=accept)
