"""Take docs/report.png anew: the first wrong prediction in the report of the demonstration. Needs Chromium and its driver.

python docs/picture.py
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from whence.demo import demo

WIDTH, MARGIN = 1120, 30
SHOWN = """
const section = document.querySelector("#predictions"), cards = section.querySelector("[data-cards]");
const others = [...document.querySelectorAll("nav, header, footer, section")].filter(other => other !== section);
const tools = [...section.children].filter(part => !part.matches("h2, .intro, .legend, [data-cards]"));
for (const part of [...others, ...tools]) part.style.display = "none";
[...cards.children].slice(1).forEach(card => card.style.display = "none");
section.style.margin = "0"; section.style.padding = "20px 0 0";
window.scrollTo(0, 0);
return Math.ceil(cards.getBoundingClientRect().bottom);
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = demo(folder).report.resolve()
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
            options.add_argument(argument)
        with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
            browser.set_window_size(WIDTH, 2000)
            browser.get(page.as_uri())
            time.sleep(1)  # cards are made as they come into view
            browser.find_element(By.ID, "predictions").location_once_scrolled_into_view  # noqa: B018
            time.sleep(1)
            bottom = browser.execute_script(SHOWN)
            time.sleep(0.5)
            browser.set_window_size(WIDTH, bottom + MARGIN + WIDTH - browser.execute_script("return innerWidth"))
            height = browser.execute_script("return innerHeight")
            browser.set_window_size(WIDTH, bottom + MARGIN + browser.get_window_size()["height"] - height)
            browser.save_screenshot(str(Path(__file__).parent / "report.png"))


if __name__ == "__main__":
    main()
