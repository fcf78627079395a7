"""Whether the hub can be reached is known in seconds."""

from peftbench.system import hub


def test_the_hub_is_not_asked_when_offline() -> None:
    assert hub.reachable() is False


def test_a_hub_that_does_not_answer_is_given_up_in_seconds(monkeypatch) -> None:
    import time

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.reachable.cache_clear()
    try:
        start = time.monotonic()
        assert hub.reachable() is False
        assert time.monotonic() - start < 6
    finally:
        hub.reachable.cache_clear()
