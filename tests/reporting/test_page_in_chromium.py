"""The page in a headless Chromium (Debian's chromium and chromium-driver, which `.ci/run` installs)."""

import json
import shutil

import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.build import build_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium-driver")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    directory = tmp_path_factory.mktemp("chromium")
    for name, rate in (("grpo", 0.3), ("progrpo", 0.6), ("gspo", 0.1)):
        scores = [make_scores(seed=int(rate * 10), rate=rate)]
        write_run(directory / "runs" / name, f"method={name}", scores=scores, wandb="disabled")
    evil = "evil/<img src=http://127.0.0.1:9/x onerror=alert(1)>"
    scores = [make_scores(seed=9, rate=0.2)]
    write_run(directory / "runs" / "e", f"model.path='{evil}'", kind="model", scores=scores, wandb="disabled")
    build_report([str(directory / "runs")], out=directory / "out", formats=["html"])
    return (directory / "out" / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def _column(browser, name):
    """The texts of a column of the first table from top to bottom."""
    return browser.execute_script(
        """const table = document.querySelector("table");
        const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText.trim() === arguments[0]);
        return [...table.tBodies[0].rows].map((row) => row.cells[column].innerText);""",
        name,
    )


def _click(browser, name):
    browser.execute_script(
        """[...document.querySelector("table").querySelectorAll("th button")]
        .find((button) => button.innerText.trim() === arguments[0]).click();""",
        name,
    )


def test_the_page_opens_and_sorts_without_network_requests(browser, url):
    browser.get_log("performance")
    browser.get(url)
    before = _column(browser, "pass@1")
    rates = [float(text.split()[0]) for text in before]
    _click(browser, "pass@1")
    assert [float(text.split()[0]) for text in _column(browser, "pass@1")] == sorted(rates)
    assert _column(browser, "method")[-1] == "progrpo"  # rows move as a whole
    _click(browser, "pass@1")
    assert [float(text.split()[0]) for text in _column(browser, "pass@1")] == sorted(rates, reverse=True)
    assert browser.execute_script("return document.querySelector('th[aria-sort]').ariaSort") == "descending"
    _click(browser, "method")
    names = _column(browser, "method")
    assert names == sorted(names)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert url in requested
    assert [address for address in requested if address != url and not address.startswith("data:")] == []


def test_the_page_fits_a_phone(browser, url):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    browser.get(url)
    width, text = browser.execute_script(
        "return [document.documentElement.scrollWidth, parseFloat(getComputedStyle(document.body).fontSize)]"
    )
    assert width <= 375  # wide tables scroll inside
    assert text >= 16
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_modes(browser, url, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(url)
    colours = browser.execute_script(
        """const style = getComputedStyle(document.body);
        const link = getComputedStyle(document.querySelector("a"));
        return [style.backgroundColor, style.color, link.color];"""
    )
    background, *foregrounds = (_luminance(colour) for colour in colours)
    assert (background < 0.1) == (scheme == "dark")
    for foreground in foregrounds:
        assert (max(background, foreground) + 0.05) / (min(background, foreground) + 0.05) >= 4.5  # WCAG 2.2, AA


def _luminance(colour):
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
