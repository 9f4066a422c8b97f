"""A label scheme, its next version, and the change between them."""

from __future__ import annotations

import pytest

from data.reviews import ReviewStore
from data.scheme import Scheme
from data.scheme_change import SchemeChange
from tests.reviewing import NOON, later

OLD = """
name: city
version: "1"
categories:
- code: "01"
  name: 市容
  children:
  - {code: "0101", name: 垃圾清运}
  - {code: "0102", name: 垃圾分类}
  - {code: "0103", name: 占道经营}
- code: "02"
  name: 噪音
  children:
  - {code: "0201", name: 噪音扰民}
  - {code: "0202", name: 鸣笛}
  - {code: "0203", name: 寻呼机干扰}
appeal_types: [咨询, 投诉]
extra_heads:
- {name: petition, labels: [是, 否]}
"""
NEW = """
name: city
version: "2"
categories:
- code: "01"
  name: 市容
  children:
  - {code: "0110", name: 垃圾, aliases: [垃圾清运, 垃圾分类]}
  - {code: "0103", name: 占道经营（含流动摊贩）}
- code: "02"
  name: 噪音
  children:
  - code: "0201"
    name: 噪音扰民
    children: [{code: "0211", name: 施工噪音}, {code: "0212", name: 广场舞}]
  - {code: "0202", name: 鸣笛, active: false, replaced_by: "0212"}
  - {code: "0299", name: 低空飞行}
appeal_types: [咨询, 投诉]
"""
CHANGE = """
from: "1"
to: "2"
dropped: [petition]
heads:
  category:
  - {step: merge, codes: ["0101", "0102"], into: "0110"}
  - {step: split, code: "0201", into: ["0211", "0212"]}
  - {step: retire, code: "0202", into: "0212"}
  - {step: retire, code: "0203", unmapped: true, why: 不再有}
  - {step: add, code: "0299"}
"""


@pytest.fixture
def old_scheme() -> Scheme:
    return Scheme.parse(OLD)


@pytest.fixture
def new_scheme() -> Scheme:
    return Scheme.parse(NEW)


@pytest.fixture
def scheme_change() -> SchemeChange:
    return SchemeChange.parse(CHANGE)


def label(reviews: ReviewStore, id: str, code: str, scheme: Scheme, who: str = "user:ann") -> None:
    """One reviewer says so."""
    taken = reviews.take_appeal(id, who, now=NOON)
    asked = {"scheme": scheme, "token": f"{id}{code}{who}", "now": later(1)}
    reviews.correct(taken.lease, who, {"category": code}, {}, **asked)  # type: ignore[arg-type]
