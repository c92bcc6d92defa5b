#!/usr/bin/env python3
"""Opens a report in a headless Chromium and uses it: both themes, a desk and a phone, sorting, a question.

    python scripts/dev/check_report.py PROGRAM [--report FILE] [--shots FOLDER]

PROGRAM is llmore; it makes a small run with answers and its report, unless --report names one. Fails on a console message, on
any request, where the body is wider than a phone, and where a click does not do what it says. --shots keeps pictures of what
was seen. Needs playwright (`pip install playwright==1.65.2`) and a Chromium: playwright's own (`playwright install chromium`) or one of
the system (`apt-get install chromium-headless-shell`). Where one of them is missing this says so and checks nothing.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
SCRIPT = """
let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-2, llm: 1e-3 }, batch: 4, steps: 12, out: "run" });
t.fit();
benchmark("tiny-vqa", #{ limit: 40 }).run(m, #{ out: "run/tiny-vqa.jsonl" });
"""


def skip(why):
    print(f"SKIPPED, the report was opened in no browser: {why}")
    return 0


def make(program, folder):
    """A run with answers in its folder, and its report."""
    (folder / "x.rhai").write_text(SCRIPT)
    for arguments in [["run", "x.rhai", "--quiet"], ["report", "run", "--out", "report.html"]]:
        subprocess.run([pathlib.Path(program).resolve(), *arguments], cwd=folder, check=True, capture_output=True)
    return folder / "report.html"


def launch(playwright):
    """playwright's own Chromium, or one of the system; None when there is none."""
    own = pathlib.Path(playwright.chromium.executable_path)
    found = [str(own)] if own.exists() else [path for path in map(shutil.which, BROWSERS) if path]
    return playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"]) if found else None


class Visit:
    """One look at the report: a theme of the system and a width."""

    def __init__(self, browser, report, theme, width, shots, error):
        self.name, self.shots, self.error, self.faults = f"{theme}-{width}", shots, error, []
        size = dict(zip(["width", "height"], WIDTHS[width]))
        context = browser.new_context(viewport=size, color_scheme=theme, device_scale_factor=2)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        # Pictures are in the page; the one request is that for the file.
        loads = lambda request: request.url.startswith("data:") or request.url == report.as_uri()
        self.page.on("request", lambda request: loads(request) or self.faults.append(f"request: {request.url[:100]}"))
        self.page.goto(report.as_uri())

    def expect(self, holds, what):
        if not holds:
            self.faults.append(what)

    def shoot(self, what):
        if self.shots:
            self.page.screenshot(path=self.shots / f"{self.name}-{what}.png")

    def all(self):
        self.page.set_default_timeout(10_000)
        for part in [self.layout, self.sorting, self.gallery, self.theme]:
            try:
                part()
            except self.error as error:
                self.faults.append(f"{part.__name__}: {str(error).splitlines()[0]}")
        self.page.context.close()
        return self.faults

    def layout(self):
        width, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        self.expect(width <= room, f"the page is {width} wide in {room}")
        ink, paper = self.page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        light = [sum(map(int, color[4:-1].split(","))) for color in (ink, paper)]
        self.expect((light[0] > light[1]) == self.name.startswith("dark"), f"{ink} on {paper}")
        self.shoot("top")
        self.page.locator("table").first.scroll_into_view_if_needed()
        self.shoot("table")

    def sorting(self):
        """A click, then the keyboard, on the heading of the numbers and of the names."""
        table = self.page.locator("table", has=self.page.locator("th", has_text="questions")).first
        heading = table.locator("th", has_text="questions")
        column = heading.evaluate("th => th.cellIndex")
        cells = lambda: table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
        before = cells()
        numbers = lambda texts: [int(text.replace(",", "")) for text in texts if text.strip()]
        self.expect(heading.get_attribute("aria-sort") == "none", "a heading that is not sorted says otherwise")
        heading.locator("button").click()
        self.expect(heading.get_attribute("aria-sort") == "descending", "a click did not sort")
        self.expect(numbers(cells()) == sorted(numbers(before), reverse=True), f"not descending: {cells()}")
        heading.locator("button").press("Enter")
        self.expect(heading.get_attribute("aria-sort") == "ascending", "Enter did not turn the order")
        self.expect(numbers(cells()) == sorted(numbers(before)), f"not ascending: {cells()}")
        self.expect("" not in [text.strip() for text in cells()[: len(numbers(before))]], "an empty cell is not at the end")
        self.shoot("sorted")

    def gallery(self):
        gallery, dialog = self.page.locator(".gallery").first, self.page.locator("dialog")
        cards = gallery.locator(".card:visible")
        wrong = cards.count()
        self.expect(wrong > 0 and gallery.locator(".card.right:visible").count() == 0, "not the wrong answers first")
        gallery.locator("button[data-show=all]").click()
        self.expect(cards.count() == gallery.locator(".card").count(), "`all` does not show all")
        gallery.locator("button[data-show=wrong]").click()
        cards.first.scroll_into_view_if_needed()
        self.shoot("gallery")
        question = cards.first.locator(".question").inner_text()
        cards.first.click()
        self.expect(dialog.is_visible(), "a click opened nothing")
        self.expect(dialog.locator(".question").inner_text() == question, "another question was opened")
        self.expect("output" in dialog.locator("pre").inner_text(), "the way to the score is not told")
        self.shoot("question")
        if wrong > 1:
            self.page.keyboard.press("ArrowRight")
            self.expect(dialog.locator(".count").inner_text() == f"2 of {wrong}", "an arrow key did not move on")
        self.page.keyboard.press("Escape")
        self.expect(not dialog.is_visible(), "Escape did not close")
        self.expect(self.page.evaluate("document.activeElement.className") == "open", "the focus is lost")

    def theme(self):
        color = "getComputedStyle(document.body).backgroundColor"
        svg = "getComputedStyle(document.querySelector('svg rect')).fill"
        before = self.page.evaluate(f"[{color}, {svg}]")
        self.page.locator("#theme").click()
        after = self.page.evaluate(f"[{color}, {svg}]")
        self.expect(before[0] != after[0] and before[1] != after[1], f"the theme did not change: {before}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return skip("no playwright; `pip install playwright==1.65.2`")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            return skip("no Chromium; `apt-get install chromium-headless-shell` or `playwright install chromium`")
        report = (arguments.report or make(arguments.program, pathlib.Path(folder))).resolve()
        if arguments.shots:
            arguments.shots.mkdir(parents=True, exist_ok=True)
        faults = []
        for theme in ["light", "dark"]:
            for width in WIDTHS:
                visit = Visit(browser, report, theme, width, arguments.shots, Error)
                faults += [f"{visit.name}: {fault}" for fault in visit.all()]
        print(f"Chromium {browser.version}: {report.stat().st_size:,} bytes, 4 visits, {len(faults)} faults")
        browser.close()
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
