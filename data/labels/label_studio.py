"""The labelling interface for a Label Studio project, made from the label scheme.

One control per head, called like it; codes are aliases, so that they stand in what is exported there.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from data.labels.exchange import UNTELLABLE
from data.scheme import Scheme

__all__ = ["label_studio_config"]


def label_studio_config(scheme: Scheme) -> str:
    """The configuration (XML) to paste into the project's settings."""
    controls = [
        f"  <Header value={quoteattr(head.title or name)}/>\n" + "\n".join(_control(scheme, name))
        for name, head in scheme.heads.items()
    ]
    return "\n".join(["<View>", '  <Text name="text" value="$text"/>', *controls, "</View>", ""])


def _control(scheme: Scheme, head: str) -> Iterator[str]:
    tree = scheme.heads[head].kind == "tree"
    tag, options = ("Taxonomy", 'leafsOnly="true" maxUsages="1"') if tree else ("Choices", 'choice="single"')
    names = scheme.heads[head].names.items()
    choices = _branches(scheme, head, "") if tree else (_choice(name, code) + "/>" for code, name in names)
    yield f'  <{tag} name={quoteattr(head)} toName="text" {options}>'
    yield from choices
    yield f"    <Choice value={quoteattr(UNTELLABLE)}/>"
    yield f"  </{tag}>"


def _branches(scheme: Scheme, head: str, parent: str) -> Iterator[str]:
    for code, label in scheme.labels[head].items():
        if label.parent != parent or not label.active:
            continue
        below = list(_branches(scheme, head, code))
        if below:
            yield from [_choice(label.name, code) + ">", *below, "    </Choice>"]
        elif code in scheme.heads[head].codes:
            yield _choice(label.name, code) + "/>"


def _choice(name: str, code: str) -> str:
    return f"    <Choice value={quoteattr(name)} alias={quoteattr(code)}"
