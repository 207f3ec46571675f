"""What was checked and what came of it. Knows nothing of what a check does."""

import json
import time
import traceback
from contextlib import contextmanager


class Failed(Exception):
    """A check that did not hold, and why."""


class Ledger:
    """Prints each check as it ends; a failed one does not keep the next from being made."""

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
        except Exception:  # A check that breaks does not hold either; where it broke is what is to be known.
            self._fail(name, began, traceback.format_exc())
        except BaseException:  # It was told to end.
            self._fail(name, began, "cut off")
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
    """A check's own condition."""
    if not holds:
        raise Failed(why)


def eventually(what, attempt, deadline, pause=1.0):
    """Calls `attempt` until it gives something true, which is returned, or `deadline` seconds are over."""
    until = time.monotonic() + deadline
    while True:
        found = attempt()
        if found:
            return found
        if time.monotonic() > until:
            raise Failed(f"not within {deadline} s: {what}")
        time.sleep(pause)
