"""A first change file between two versions of a label scheme, to be checked by a person.

What became of a code is read off the new version: `replaced_by`, labels below it, the same name or an
alias, and last a similar name, which is marked. What is left is proposed as unmapped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from data.scheme import Scheme

__all__ = ["propose_change"]

ALIKE = 0.6  # similarity of names from which one is proposed at all


@dataclass(frozen=True)
class _Guess:
    """Where an old code probably went; `sure` if the new version says so itself."""

    into: tuple[str, ...]
    sure: bool


def propose_change(old: Scheme, new: Scheme) -> str:
    """The YAML of a change file: steps, each with the labels' names, and `# check` where it is a guess."""
    lines = [f"from: {_quoted(old.version)}", f"to: {_quoted(new.version)}"]
    dropped = [head for head in old.heads if head not in new.heads]
    if dropped:
        lines.append(f"dropped: [{', '.join(dropped)}]")
    parts = {head: list(_steps(old, new, head)) for head in old.heads if head in new.heads}
    changed = {head: steps for head, steps in parts.items() if steps}
    lines.append(
        "heads:" if any(_is_step(line) for steps in changed.values() for line in steps) else "heads: {}"
    )
    for head, steps in changed.items():
        if any(map(_is_step, steps)):
            lines.append(f"  {head}:")
        lines += [f"  {line}" for line in steps]
    return "\n".join(lines) + "\n"


def _is_step(line: str) -> bool:
    return line.startswith("- ")


def _steps(old: Scheme, new: Scheme, head: str) -> Iterator[str]:
    before, after = old.heads[head], new.heads[head]
    gone = [code for code in before.codes if code not in after.codes]
    guesses = {code: _guess(old, new, head, code) for code in gone}
    merged = _merged(guesses)
    for target, sources in merged.items():
        kept = [target] if target in before.codes else []
        sure = all(guesses[code].sure for code in sources)
        step = f"codes: [{', '.join(map(_quoted, [*kept, *sources]))}], into: {_quoted(target)}"
        yield _line("merge", step, [*_names(old, head, sources), "→", after.names[target]], sure)
    for code, guess in guesses.items():
        if not set(guess.into) & merged.keys() or len(guess.into) != 1:
            yield _single(old, new, head, code, guess)
    heard = {target for guess in guesses.values() for target in guess.into}
    for code in after.codes:
        if code not in before.codes and code not in heard:
            yield _line("add", f"code: {_quoted(code)}", [after.names[code]], True)
    for code in before.codes:
        if code in after.codes and before.names[code] != after.names[code]:
            yield f"# {code}: {before.names[code]} → {after.names[code]} (if the meaning changed: a new code)"


def _merged(guesses: Mapping[str, _Guess]) -> dict[str, list[str]]:
    """New code → old codes, where several go to the same one."""
    targets: dict[str, list[str]] = {}
    for code, guess in guesses.items():
        if len(guess.into) == 1:
            targets.setdefault(guess.into[0], []).append(code)
    return {target: sources for target, sources in targets.items() if len(sources) > 1}


def _single(old: Scheme, new: Scheme, head: str, code: str, guess: _Guess) -> str:
    names = [old.heads[head].names[code], "→", *_names(new, head, guess.into)]
    if len(guess.into) > 1:
        into = ", ".join(map(_quoted, guess.into))
        return _line("split", f"code: {_quoted(code)}, into: [{into}]", names, guess.sure)
    if not guess.into:
        return _line("retire", f"code: {_quoted(code)}, unmapped: true", [names[0]], False)
    step = "retire" if guess.into[0] in old.heads[head].codes else "rename"
    return _line(step, f"code: {_quoted(code)}, into: {_quoted(guess.into[0])}", names, guess.sure)


def _guess(old: Scheme, new: Scheme, head: str, code: str) -> _Guess:
    if code in new.labels[head]:
        below = new.leaves(head, code)
        return _Guess(tuple(one for one in new.heads[head].codes if one in below), True)
    name = old.heads[head].names[code]
    said = [
        one
        for one in new.heads[head].codes
        if name in (new.labels[head][one].name, *new.labels[head][one].aliases)
        or code in new.labels[head][one].aliases
    ]
    if len(said) == 1:
        return _Guess((said[0],), True)
    fresh = [one for one in new.heads[head].codes if one not in old.heads[head].codes]
    near = max(fresh, key=lambda one: _likeness(name, new.heads[head].names[one]), default="")
    if near and _likeness(name, new.heads[head].names[near]) >= ALIKE:
        return _Guess((near,), False)
    return _Guess((), False)


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _names(scheme: Scheme, head: str, codes: tuple[str, ...] | list[str]) -> list[str]:
    return [scheme.heads[head].names[code] for code in codes]


def _line(step: str, rest: str, names: list[str], sure: bool) -> str:
    return f"- {{step: {step}, {rest}}}  # {' '.join(names)}{'' if sure else ' – check'}"


def _quoted(code: str) -> str:
    return json.dumps(code, ensure_ascii=False)
