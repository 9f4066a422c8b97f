"""What operators are given is true: the handbook, the alarms, the dashboard, the files to deploy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest
import typer
import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from serving.__main__ import cli
from serving.errors import STATUS
from serving.metrics import SHED_LIMITS
from serving.settings import Settings
from tests.handbook import documented

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
HANDBOOK = ROOT / "docs" / "operations.md"
FOUND_ELSEWHERE = {"up": frozenset[str]()}
EVERYWHERE = {"job", "instance", "le"}
SEVERITIES = {"critical", "warning"}


def handbook() -> str:
    return HANDBOOK.read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Headings as links name them."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


def shell_lines(text: str) -> Iterator[str]:
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


# --- settings and commands ----------------------------------------------------------------------


def settings_rows() -> list[tuple[str, str, str]]:
    """(variable, default, allowed) of every setting, as the handbook's table shows them."""
    return [
        (f"JIESU_{name.upper()}", _default(field), _allowed(field))
        for name, field in Settings.model_fields.items()
    ]


def _default(field: FieldInfo) -> str:
    return f"`{field.default}`" if field.default not in (None, "") else "–"


def _allowed(field: FieldInfo) -> str:
    if choices := [one for one in get_args(field.annotation) if isinstance(one, str)]:
        return ", ".join(f"`{choice}`" for choice in choices)
    signs = ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le"), (Lt, "<", "lt"))
    bounds = [
        f"{sign} {getattr(one, name)}"
        for one in field.metadata
        for kind, sign, name in signs
        if isinstance(one, kind)
    ]
    return ", ".join(bounds) or "–"


def test_the_table_of_settings_is_that_of_the_program() -> None:
    shown = re.findall(r"^\| `(JIESU_\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", handbook(), re.MULTILINE)
    assert [(name, default, allowed) for name, default, allowed, _ in shown] == settings_rows()
    assert all(meaning.strip(" @") for *_, meaning in shown)


def test_every_setting_that_is_named_anywhere_exists() -> None:
    known = {name for name, _, _ in settings_rows()}
    known |= {"JIESU_VERSION", "JIESU_ADDRESS_", "JIESU_KEY_"}  # of compose; beginnings that end in …
    for path in (HANDBOOK, *(path for path in DEPLOY.iterdir() if path.is_file())):
        named = set(re.findall(r"JIESU_[A-Z_]+", path.read_text(encoding="utf-8")))
        assert named - known - {"JIESU_"} == set(), path


def test_other_names_of_settings_are_told() -> None:
    for name, field in Settings.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            for alias in field.validation_alias.choices:
                assert f"`{alias}`" in handbook(), (name, alias)


def commands(text: str) -> list[list[str]]:
    """The words after `python -m serving` wherever the handbook says it."""
    said = re.findall(r"python -m serving ([^`\n#>|)&…]+)", text)
    return [words.split() for words in said if words.split()]


def test_every_command_and_option_that_is_named_exists() -> None:
    found = commands(handbook())
    assert len(found) >= 12
    composed = re.findall(r"docker (?:compose run --rm jiesu-1|run --rm jiesu) ([^`\n#>|]+)", handbook())
    for words in [*found, *(words.split() for words in composed)]:
        _check_command(words)


def _check_command(words: list[str]) -> None:
    group: Any = typer.main.get_command(cli)
    rest = list(words)
    while rest and rest[0] in getattr(group, "commands", {}):
        group = group.commands[rest.pop(0)]
    asks_help = rest in ([], ["--help"])
    assert asks_help or not hasattr(group, "commands"), f"no such command: {' '.join(words)}"
    options = {option for one in group.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word not in options]
    assert unknown == [], f"{' '.join(words)}: {unknown}"


def test_the_shell_lines_can_be_read_by_a_shell() -> None:
    lines = "\n".join(shell_lines(handbook()))
    assert "pg_restore" in lines
    done = subprocess.run(["bash", "-n"], input=lines, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_links_lead_somewhere() -> None:
    text = handbook()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or (HANDBOOK.parent / path).is_file(), target
        assert not anchor or path or anchor in anchors(text), target
    for named in re.findall(r"`(deploy/[\w.]+)`", text):
        assert (ROOT / named).is_file(), named


def test_nothing_was_left_to_be_filled_in() -> None:
    assert "@@" not in handbook() and "TODO" not in handbook()


# --- limits -------------------------------------------------------------------------------------


def test_every_limit_and_every_503_is_told() -> None:
    section = handbook().partition("## Limits and what happens at each")[2].partition("\n## ")[0]
    for kind, status in STATUS.items():
        if status in (408, 413, 429, 503):
            assert f"`{kind.code}`" in section, kind.code
    for limit in (*SHED_LIMITS, "key_requests_per_second", "address_requests_per_second"):
        assert re.search(rf"429 `\w+`, `{limit}`", section), limit


def test_the_figures_of_the_limits_are_those_of_the_program() -> None:
    from serving import messages

    section = handbook().partition("## Limits and what happens at each")[2].partition("\n## ")[0]
    assert f"a text {messages.TEXT_LIMIT:,}, a title {messages.TITLE_LIMIT} characters" in section
    assert f"{messages.TEXTS_LIMIT} texts per request" in section


# --- alarms and dashboard -----------------------------------------------------------------------


def known_samples() -> Mapping[str, frozenset[str]]:
    """Every sample that can be asked for → its labels."""
    found = dict(FOUND_ELSEWHERE)
    for name, (kind, labels) in documented().items():
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + suffix: labels for suffix in suffixes}
    return found


def check_expression(expression: str) -> set[str]:
    """The metrics an expression asks for; fails on one that is no PromQL, or asks for what is not there."""
    tree = promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    known, asked = known_samples(), set[str]()

    def visit(node: Any) -> None:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            assert selector.name and selector.name in known, f"no such metric: {selector.name}"
            strange = {one.name for one in selector.matchers.matchers} - known[selector.name] - EVERYWHERE
            assert not strange, f"{selector.name} has no label {strange}"
            asked.add(selector.name)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels = set(node.modifier.labels) - EVERYWHERE
            allowed = {label for name in _inside(node) for label in known[name]}
            assert labels <= allowed, f"{expression}: no label {labels - allowed}"

    promql_parser.walk(tree, visit)
    return asked


def _inside(node: Any) -> set[str]:
    names = set[str]()

    def visit(each: Any) -> None:
        if isinstance(each, promql_parser.VectorSelector) and each.name:
            names.add(each.name)
        if isinstance(each, promql_parser.MatrixSelector):
            names.add(str(each.vector_selector.name))

    promql_parser.walk(node, visit)
    return names


def alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
    assert set(content) == {"groups"}
    for group in content["groups"]:
        assert set(group) == {"name", "rules"}
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alarm_is_whole_and_has_its_section(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Jiesu[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (ROOT / path).is_file() and anchor == rule["alert"].lower()
    section = handbook().partition(f"\n### {rule['alert']}\n")[2].partition("\n### ")[0]
    assert len(section.split()) >= 15, "what it means and what to do"
    assert check_expression(rule["expr"])


def test_alarms_have_names_of_their_own_and_the_handbook_no_others() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    assert re.findall(r"^### (Jiesu\w+)$", handbook(), re.MULTILINE) == sorted(names, key=_place)
    assert set(re.findall(r"^### (\w+)$", handbook(), re.MULTILINE)) == set(names)


def _place(name: str) -> int:
    return handbook().index(f"\n### {name}\n")


def test_labels_in_an_alarms_words_are_left_by_its_expression() -> None:
    for rule in alerts():
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            by = [one.replace(" ", "").split(",") for one in re.findall(r"by \(([^)]*)\)", rule["expr"])]
            assert not by or any(label in labels for labels in by), (rule["alert"], label)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(DEPLOY / "alerts.yaml")], check=True)


def test_a_wrong_expression_is_seen() -> None:
    for wrong in (
        "jiesu_nothing_total > 0", "rate(jiesu_shed_total[5m", 'jiesu_ready{lane="urgent"}',
        "sum by (head) (jiesu_ready)", "rate(jiesu_stage_seconds[5m])",
    ):  # fmt: skip
        with pytest.raises((AssertionError, ValueError)):
            check_expression(wrong)


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    return content


def test_the_dashboard_asks_for_what_there_is_and_shows_all_of_it() -> None:
    board = dashboard()
    asked = {
        name
        for panel in board["panels"]
        for target in panel.get("targets", ())
        for name in check_expression(target["expr"])
    }
    for note in board["annotations"]["list"]:
        check_expression(note["expr"])
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    ours = {name for name in documented() if name.startswith("jiesu_")}
    assert ours - shown == set(), "every metric of ours is on the dashboard"


def test_the_dashboard_has_its_rows_and_fits_the_grid() -> None:
    board = dashboard()
    panels = board["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Traffic & latency", "Urgent lane", "Queue & batches", "Decisions & confidence", "Model", "Store",
        "Security", "Review", "Correction memory",
    ]  # fmt: skip
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert board["schemaVersion"] >= 41
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [
        (x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells)), "no panel lies on another"


def test_the_dashboard_works_with_any_data_source() -> None:
    board = dashboard()
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert set(variables) == {"datasource", "job", "instance"}
    sources = re.findall(r'"uid": "([^"]+)"', (DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    assert set(sources) == {"${datasource}", "jiesu"}


# --- what is deployed ---------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def seconds(duration: str) -> int:
    """nginx's and compose's 90s, 2m."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def directive(name: str, text: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+([^;{{]+);", text, re.MULTILINE)


def test_the_proxy_knows_every_replica_and_they_know_the_proxy() -> None:
    services = compose()["services"]
    replicas = {name: one for name, one in services.items() if name.startswith("jiesu-")}
    assert len(replicas) >= 2
    proxy = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    named = {server.split(":")[0] for server in directive("server", proxy)}
    assert named == {one["networks"]["inside"]["ipv4_address"] for one in replicas.values()}
    for one in replicas.values():
        trusted = one["environment"]["JIESU_TRUSTED_PROXIES"]
        assert trusted == services["proxy"]["networks"]["inside"]["ipv4_address"]
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and "ports" not in one
        assert one["stop_grace_period"] == "2m"
    assert compose()["networks"]["inside"]["internal"] is True
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]


def test_waiting_times_fit_each_other() -> None:
    defaults = Settings()
    proxy = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    reads = [seconds(one) for one in directive("proxy_read_timeout", proxy)]
    assert min(reads) > defaults.answer_seconds and max(reads) > defaults.bulk_idle_seconds
    body = max(int(size[:-1]) for size in directive("client_max_body_size", proxy) if size.endswith("m"))
    assert body * 1024 * 1024 > defaults.max_body_bytes
    assert directive("client_body_buffer_size", proxy) == [f"{body}m"], "no body is written to disk"
    assert seconds(directive("keepalive_timeout", proxy)[0]) < 5, "uvicorn closes idle connections after 5 s"
    unit = (DEPLOY / "jiesu.service").read_text(encoding="utf-8")
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop and int(stop[1]) > 3 * defaults.grace_seconds
    assert seconds(compose()["services"]["jiesu-1"]["stop_grace_period"]) > 3 * defaults.grace_seconds


def test_the_proxy_sends_again_only_what_is_safe_to_send_twice() -> None:
    proxy = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    places = dict(re.findall(r"location (?:= )?(\S+) \{([^}]*)\}", proxy))
    again = {place for place, inside in places.items() if "non_idempotent" in inside}
    assert again == {"/v1/appeals", "/v1/classify"}
    bulk = places["/v1/appeals:bulk"]
    for line in ("proxy_request_buffering off", "proxy_buffering         off", "client_max_body_size    0"):
        assert line in bulk
    assert "return 404" in places["/metrics"]
    assert "$request_uri" not in proxy and "$uri" not in proxy and '$request"' not in proxy


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    own = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("listen 443 ssl;", "listen 8443;")
    (tmp_path / "n.conf").write_text(re.sub(r"^\s*ssl_certificate.*$", "", own, flags=re.MULTILINE))
    command = ["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "n.conf")]
    subprocess.run(command, check=True, capture_output=True)


def test_the_example_of_settings_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.settings import load_settings

    lines = (DEPLOY / "jiesu.env.example").read_text(encoding="utf-8").splitlines()
    for line in lines:
        name, separator, value = line.lstrip("# ").partition("=")
        if separator and re.fullmatch(r"[A-Z_]+", name) and not line.startswith("# DATABASE_URL"):
            monkeypatch.setenv(name, value)
    assert load_settings().environment == "production"


def test_the_image_holds_what_serving_needs_and_nothing_else() -> None:
    made = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+(?: AS (\w+))?$", made, re.MULTILINE)
    assert stages == ["build", ""]
    last = made.rpartition("\nFROM ")[2]
    assert "USER 10001" in last and "HEALTHCHECK" in last and "/readyz" in last and "pip" not in last
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = (\[.*\])$", project, re.MULTILINE)
    assert packages
    copied = set(re.findall(r"^COPY (\w+) \1$", made, re.MULTILINE))
    assert copied == set(json.loads(packages[1]))
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    beside = {"pyproject.toml", "README.md", "LICENSE", "NOTICE"}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied | beside
    extras = re.search(r"^ARG EXTRAS=(\S+)$", made, re.MULTILINE)
    assert extras and set(extras[1].split(",")) == {"serving", "postgres"}
    for extra in ("serving", "postgres", "tracing"):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_unit_is_closed_and_ends_like_the_program() -> None:
    unit = (DEPLOY / "jiesu.service").read_text(encoding="utf-8")
    for line in (
        "User=jiesu", "UMask=0077", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=",
        "PrivateTmp=yes", "SystemCallFilter=@system-service", "RestartPreventExitStatus=2",
        "StateDirectory=jiesu",
    ):  # fmt: skip
        assert f"\n{line}\n" in unit, line
    start = re.search(r"^ExecStart=/opt/jiesu/bin/python -m serving (.+)$", unit, re.MULTILINE)
    assert start
    _check_command(start[1].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "jiesu.service").read_text(encoding="utf-8")
    path = tmp_path / "jiesu.service"
    path.write_text(unit.replace("/opt/jiesu/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", path], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
