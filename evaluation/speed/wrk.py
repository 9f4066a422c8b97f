"""Saturation once more, by wrk: a standard load tool, so that our own generator need not be believed.

wrk (Debian's and Homebrew's package of that name) is a closed loop in C that takes next to nothing of the
processors under test. It can't hold a fixed rate, so the times come from our generator alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import ServerFailed

__all__ = ["Checked", "drive", "installed"]

# Every body once, from the file named behind "--"; then the thread stops rather than ask anything twice.
# Summary and durations as in wrk's own scripting interface: microseconds, statuses from 400 on as errors.
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies = nil
function init(arguments)
  bodies = io.lines(arguments[1])
end
function request()
  local body = bodies and bodies()
  if not body then
    bodies = nil
    wrk.thread:stop()
  end
  return wrk.format(nil, nil, nil, body or "{}")
end
function done(summary, latency, requests)
  local wrong = summary.errors
  io.write(string.format(
    'summary {"requests": %d, "microseconds": %d, "refused": %d, "lost": %d}\\n',
    summary.requests, summary.duration, wrong.status, wrong.connect + wrong.read + wrong.write + wrong.timeout
  ))
end
"""


@dataclass(frozen=True)
class Checked:
    """What wrk counted. ``throughput`` in texts a second, of good answers only."""

    requests: int
    errors: int
    throughput: float


def installed() -> bool:
    """Whether there is a wrk to ask."""
    return shutil.which("wrk") is not None


def drive(url: str, bodies: Path, texts: int, users: int, seconds: float) -> Checked:
    """Keep ``users`` requests of ``texts`` texts under way for ``seconds`` (whole ones, one at least).

    Raises ServerFailed when wrk can't run or nothing was answered.
    """
    script = bodies.with_name("wrk.lua")
    script.write_text(_SCRIPT, encoding="utf-8")
    options = ["--threads", "1", "--connections", str(users), "--duration", f"{max(1, round(seconds))}s"]
    command = ["wrk", *options, "--timeout", "60s", "--script", str(script), url, "--", str(bodies)]
    done = subprocess.run(command, capture_output=True, text=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("summary ")]
    if not told:
        raise ServerFailed(f"wrk: expected its summary, got status {done.returncode}: {done.stderr.strip()}")
    found: dict[str, int] = json.loads(told[0].removeprefix("summary "))
    good = found["requests"] - found["refused"]
    errors = found["refused"] + found["lost"]
    if good <= 0:
        raise ServerFailed(f"wrk: expected answers from {url}, got {errors} errors and none")
    return Checked(good + errors, errors, texts * good / found["microseconds"] * 1e6)
