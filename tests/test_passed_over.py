"""What was told in vain: by whom, how much is remembered, and when it is forgotten."""

from __future__ import annotations

from node.passed_over import PASSED_OVER_MAX, PassedFile, PassedOver

PASSED = PassedFile("jinan", ("roster", "card"))
OTHER = PassedFile("", ("roster", ""), frozenset({"held"}))


def test_each_peer_has_told_its_own() -> None:
    told = PassedOver()
    told.add("a", PASSED, peer="qingdao")
    told.add("b", OTHER, peer="yantai")
    told.add("a", PASSED, peer="yantai")
    assert (told.told_by("qingdao"), told.told_by("yantai"), told.told_by("weifang")) == (["a"], ["b", "a"], [])
    assert (told.find("a"), told.find("b"), told.find("c")) == (PASSED, OTHER, None)


def test_who_tells_ever_new_files_has_only_its_own_forgotten() -> None:
    told = PassedOver()
    told.add("honest", PASSED, peer="qingdao")
    for i in range(PASSED_OVER_MAX + 3):
        told.add(str(i), PASSED, peer="yantai")
        told.add("again", PASSED, peer="qingdao")
    assert told.told_by("qingdao") == ["honest", "again"]
    assert told.told_by("yantai") == [str(i) for i in range(3, PASSED_OVER_MAX + 3)]
    told.add("3", OTHER, peer="yantai")
    assert (len(told.told_by("yantai")), told.find("3")) == (PASSED_OVER_MAX, OTHER)


def test_only_what_is_needless_stays() -> None:
    told = PassedOver()
    for name, passed in (("a", PASSED), ("b", OTHER), ("c", PASSED)):
        told.add(name, passed, peer="qingdao")
    told.retain(lambda name, passed: passed is OTHER or name == "c")
    assert told.told_by("qingdao") == ["b", "c"]
    assert told.find("a") is None
