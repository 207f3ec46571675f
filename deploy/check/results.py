"""Check results: prints, counts and times checks. Knows nothing about their content."""

import json
import time
import traceback
from contextlib import contextmanager


class Failed(Exception):
    """A failed check, with the reason."""


class CheckResults:
    """Prints each check when it ends. A failed check does not stop the next one."""

    def __init__(self):
        self.checks = 0
        self.failed = []

    @contextmanager
    def check(self, name):
        self.checks += 1
        began = time.monotonic()
        try:
            yield
        except Failed as error:
            self._fail(name, began, str(error))
        except Exception:  # An exception fails the check; the traceback is the reason.
            self._fail(name, began, traceback.format_exc())
        except BaseException:  # Interrupted.
            self._fail(name, began, "interrupted")
            raise
        else:
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)

    def _fail(self, name, began, why):
        self.failed.append(name)
        print(f"FAILED  {name} ({time.monotonic() - began:.1f} s)", flush=True)
        for line in why.strip().splitlines()[-40:]:
            print(f"        {line}", flush=True)

    def summary(self):
        for name in self.failed:
            print(f"failed: {name}")
        return json.dumps({"checks": self.checks, "failed": len(self.failed)})


def expect(holds, why):
    """Fails the check with `why` unless `holds` is true."""
    if not holds:
        raise Failed(why)


def eventually(what, attempt, timeout, pause=1.0):
    """Calls `attempt` until its result is true and returns it. Fails after `timeout` seconds."""
    until = time.monotonic() + timeout
    while True:
        found = attempt()
        if found:
            return found
        if time.monotonic() > until:
            raise Failed(f"timeout after {timeout} s: {what}")
        time.sleep(pause)
