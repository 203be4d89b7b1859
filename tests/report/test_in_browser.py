"""The page in a real browser: what it asks for, what a keyboard reaches, what the eye can read."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Tab, tab
from test_report_page import page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"
    ),
]

SECTIONS = [
    "decision", "rules", "columns", "pairs", "detection", "utility", "privacy", "training",
    "protection", "schema", "provenance",
]  # fmt: skip

#: Every visible text whose contrast to what lies behind it is below AA (WCAG 2.2, 1.4.3).
FAINT = """
(() => {
  const channels = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => channels(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (e.namespaceURI.includes('xhtml') && (c.length < 4 || c[3] > 0))
        return getComputedStyle(e).backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  let n = 0;
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(c => c.nodeType === 3 && c.textContent.trim());
    if (!own || ['title', 'desc'].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(e.tagName === 'text' ? style.fill : style.color), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    n += 1;
    if (ratio < 4.5) faint.push(`${e.tagName}.${e.getAttribute('class')}: ${ratio.toFixed(2)}`);
  }
  return {n, faint};
})()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page(), encoding="utf-8")
    with tab(folder / "profile") as opened:
        opened.resize(1280)
        opened.media()
        opened.open(folder / "report.html")
        yield opened


def test_nothing_is_requested_and_nothing_complains(shown: Tab):
    urls = [e["request"]["url"] for e in shown.said("Network.requestWillBeSent")]
    assert [url.rsplit("/", 1)[1] for url in urls] == ["report.html"]
    assert urls[0].startswith("file:")
    complaints = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert shown.said(*complaints) == []


def test_a_request_would_be_seen(tmp_path: Path):
    # the page's own policy blocks every load, and the browser reports that it did
    smuggled = page().replace("<main", '<img alt="" src="http://127.0.0.1:9/pixel.png"><main')
    (tmp_path / "report.html").write_text(smuggled, encoding="utf-8")
    with tab(tmp_path / "profile") as opened:
        opened.open(tmp_path / "report.html")
        told = opened.said("Log.entryAdded")
    assert any("Content Security Policy" in e["entry"]["text"] for e in told)


def test_a_keyboard_reaches_every_section(shown: Tab):
    shown.value("document.activeElement.blur(); window.scrollTo(0, 0)")
    shown.press("Tab")
    assert shown.value("document.activeElement.className") == "skip"
    assert shown.value("document.activeElement.getBoundingClientRect().top") >= 0  # it shows
    for section in SECTIONS:
        shown.press("Tab")
        assert shown.value("document.activeElement.getAttribute('href')") == f"#{section}"
        assert shown.value("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    visited = []
    for section in SECTIONS:
        shown.value(f"document.querySelector('nav a[href=\"#{section}\"]').focus()")
        shown.press("Enter")
        at = shown.value(f"document.getElementById('{section}').getBoundingClientRect().top")
        visited.append((shown.value("location.hash"), -5 <= at < 900))
    assert visited == [(f"#{section}", True) for section in SECTIONS]


def test_a_keyboard_opens_the_numbers_and_scrolls_wide_tables(shown: Tab):
    opened = "document.activeElement.parentElement.open"
    shown.value("document.querySelector('.card summary').focus()")
    assert shown.value(opened) is False
    shown.press("Enter")
    assert shown.value(opened) is True
    shown.press("Tab")
    assert shown.value("document.activeElement.getAttribute('role')") == "region"
    assert shown.value("document.activeElement.getAttribute('aria-label')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(shown: Tab, scheme: str):
    shown.media(scheme=scheme)
    shown.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    background = shown.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(247, 248, 250)") == (scheme == "light")
    found = shown.value(FAINT)
    assert found["n"] > 300
    assert found["faint"] == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_itself_never_scrolls_sideways(shown: Tab, width: int):
    shown.resize(width)
    assert shown.value("document.scrollingElement.scrollWidth") <= width
    shown.resize(1280)


def test_it_prints(shown: Tab):
    shown.media("print")
    assert shown.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert shown.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = base64.b64decode(shown.ask("Page.printToPDF", printBackground=True)["data"])
    shown.media()
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
