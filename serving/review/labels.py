"""All labels that may be given, as pickers search them: by characters, by pinyin, by its initials."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from data.scheme import Head, Scheme
from serving.review.naming import Names
from serving.review.words import LabelsOut, PickHead, PickOut

__all__ = ["Pickers", "initials", "pickers", "syllables"]

SPOKEN = re.compile(r"[0-9a-z]+")


@dataclass(frozen=True)
class Pickers:
    """The body of an answer, and its entity tag; `scheme` is the hash of the scheme it shows."""

    scheme: str
    body: bytes
    etag: str


def pickers(scheme: Scheme) -> Pickers:
    """The labels of a scheme; some hundred milliseconds the first time, when the dictionary is read."""
    names = Names(scheme)
    heads = [_head(scheme.heads[head], scheme, names) for head in names.heads]
    body = LabelsOut(scheme_version=scheme.version, heads=heads).model_dump_json().encode()
    return Pickers(scheme.sha256, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def syllables(name: str) -> list[str]:
    """Pinyin without tones; characters of several readings as the words they stand in ask for."""
    from pypinyin import lazy_pinyin  # its dictionaries take 50 MB: for those who review alone

    return [part for word in lazy_pinyin(name) for part in SPOKEN.findall(word.replace("ü", "v").lower())]


def initials(parts: list[str]) -> str:
    """First letters of the syllables; numbers as a whole."""
    return "".join(part if part.isdecimal() else part[0] for part in parts)


def _head(head: Head, scheme: Scheme, names: Names) -> PickHead:
    picks = [_pick(head.name, code, scheme, names) for code in head.codes]
    return PickHead(
        head=head.name,
        name=names.head(head.name),
        tree=any(len(pick.path) > 1 for pick in picks),
        labels=picks,
    )


def _pick(head: str, code: str, scheme: Scheme, names: Names) -> PickOut:
    label = scheme.labels[head][code]
    parts = syllables(label.name)
    return PickOut(
        code=code,
        name=label.name,
        path=names.path(head, code),
        pinyin=" ".join(parts),
        initials=initials(parts),
        keywords=list(dict.fromkeys([*label.keywords, *label.aliases])),
        definition=label.definition,
    )
