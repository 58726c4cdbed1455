"""How things look: numbers, widths, text that is no markup."""

from __future__ import annotations

import pytest

from recengine.cli.screen import console, duration, size, span, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 µs"),
        (1.234e-6, "1.23 µs"),
        (84.21e-6, "84.2 µs"),
        (142.4e-6, "142 µs"),
        (0.00099949, "999 µs"),
        (0.0009996, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (0.99951, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (1234.0, "1,234 s"),
    ],
)
def test_duration_has_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_span_says_the_unit_once() -> None:
    assert span(0.0301, 0.0676) == "30.1–67.6 ms"
    assert span(0.383, 1.22) == "383 ms–1.22 s"


def test_size() -> None:
    assert size(1_979_230) == "2.0 MB"
    assert size(4_321) == "4.3 kB"


def printed(what: object) -> str:
    screen = console()
    with screen.capture() as captured:
        screen.print(what)
    return captured.get()


@pytest.mark.parametrize(("columns", "width"), [(None, 100), ("60", 60), ("300", 100)])
def test_width_is_at_most_100(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert console().width == width
    made = table("", ">n", "text", rows=[("a" * 80, "1,234,567", "b" * 80)])
    assert max(map(len, printed(made).splitlines())) <= width
    assert "1,234,567" in printed(made)


def test_brackets_are_no_markup() -> None:
    assert "[REC]² [bold]" in printed(table("title", title="[x]", rows=[("[REC]² [bold]",)]))
    assert "[x]" in printed(table("title", title="[x]", rows=[("a",)]))
