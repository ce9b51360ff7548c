"""Look at the live page in a real browser: two widths, dark and light, keyboard, and a thousand refreshes.

    python benchmarks/check_page.py --out screenshots [--refreshes 1000] [--browser chromium] [--plant plant.db]

Serves a deployment (a small one of its own, or a copy of the one that --plant names), opens ``/live`` in a headless Chromium, and

* takes a picture at 360 and at 1280 pixels, dark and light, and measures that nothing is wider than the window and how far things shifted while
  loading and refreshing (the sum of Chromium's layout shifts, which ought to stay below .1);
* walks through everything that the Tab key reaches, and looks whether each has a visible outline;
* checks that what is open, focused and being read stays so when sections are replaced, that a hidden page asks nothing, and that a service that has
  gone is told and found again;
* serves with a token: the page asks for it, refuses another, and remembers it in its tab;
* refreshes N times while episodes are reported, and compares nodes, listeners and heap after the first tenth and at the end;
* computes the contrast of all text as it is drawn.

It needs Chromium and nothing else: the browser is driven through a pipe (``--remote-debugging-pipe``). Exit status 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

import surefoot as sf
from surefoot.service import Limits, make_app
from surefoot.service.connections import protocol

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = ((360, 780), (1280, 900))
LARGEST_SHIFT = 0.1
LARGEST_GROWTH = 1.25


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Browser:
    """A headless Chromium and one tab of it."""

    def __init__(self, program: str, profile: str) -> None:
        theirs, self._out = os.pipe()
        self._in, ours = os.pipe()

        def arrange() -> None:
            # The browser reads from descriptor 3 and writes to 4.
            read, write = os.dup(theirs), os.dup(ours)
            os.dup2(read, 3)
            os.dup2(write, 4)

        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
            "--enable-precise-memory-info",
        ]
        self._process = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"], preexec_fn=arrange, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        os.close(ours)
        self._buffer, self._number, self._session = b"", 0, None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> Any:
        """One command and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 2**16)
            if not part:
                raise RuntimeError("the browser has gone")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        found = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "the script failed"))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30.0) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                shown = self.run("document.body.innerText.slice(0, 300)")
                raise RuntimeError(f"never true: {script}; the page shows {shown!r}")
            time.sleep(0.02)

    def key(self, name: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        """Of the whole page."""
        size = self("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12000), "scale": 1}
        data = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the browser that was started here."""
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)


class Service:
    """The service in a thread; it can be stopped and started again at the same port."""

    def __init__(self, plant: sf.Deployment, token: str | None = None) -> None:
        self._plant, self._token, self.port = plant, token, 0
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        limits = Limits(rate=1e5, burst=10**5)
        app = make_app(self._plant, self._token, limits)
        config = uvicorn.Config(
            app, log_level="error", access_log=False, lifespan="off", http=protocol(limits), timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop serving; the deployment stays open."""
        self._server.should_exit = True
        self._thread.join()


Report = Callable[[int], None]
"""Asks for so many episodes and reports them."""


def reporter(plant: sf.Deployment, noise: float | None) -> Report:
    """Episodes of a gridworld of this noise; where the deployment is about something else (``None``), cheap ones."""
    world = None if noise is None else sf.tasks.NoisyGridworld().cmdp([noise])
    robots = None if world is None else sf.Simulator(world, list(plant.policy_set.policies))

    def tell(n: int) -> None:
        tickets = plant.ask(n)
        if robots is None:
            plant.tell(tickets.ids, [0.0] * n, [[0.0] * plant.policy_set.criterion.n_costs] * n)
            return
        seen = robots.run(tickets.policy_index, seed=7, first_episode=int(tickets.ids[0]), groups=[0] * n)
        plant.tell(tickets.ids, seen.returns, seen.costs, initial_state=seen.initial_states)

    return tell


SHIFTS = """
window.shifts = [];
new PerformanceObserver(list => { for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifts.push(e.value); })
  .observe({type: "layout-shift", buffered: true});
"""
REFRESH = """
new Promise(done => {
  const main = document.getElementById("main"), before = Number(main.dataset.refreshes);
  const look = () => Number(main.dataset.refreshes) > before ? done(true) : setTimeout(look, 1);
  document.getElementById("again").click();
  look();
})
"""
CONTRAST = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => { const s = c / 255; return s <= .03928 ? s / 12.92 : ((s + .055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const paper = e => {
    for (; e; e = e.parentElement) {
      const found = numbers(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const worst = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), inPicture = e.namespaceURI.endsWith("svg");
    const a = luminance(numbers(inPicture ? style.fill : style.color)), b = luminance(paper(e));
    worst.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
})()
"""
FOCUSED = """
(() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  const style = getComputedStyle(e);
  const seen = parseFloat(style.outlineWidth) > 1 && style.outlineStyle !== "none";
  return [e.tagName + (e.id ? "#" + e.id : ""), (e.textContent || "").trim().slice(0, 30), seen];
})()
"""


def look(browser: Browser, address: str, out: Path, tell: Report) -> Iterator[str]:
    """What is wrong at both widths, dark and light."""
    for width, height in SIZES:
        for theme in ("light", "dark"):
            browser(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            browser("Page.navigate", url=address)
            browser.wait("document.querySelector('#cost')")
            browser.run(SHIFTS)
            for _ in range(5):
                tell(1)
                browser.run(REFRESH)
            time.sleep(0.3)
            shift = sum(browser.run("window.shifts"))
            browser.picture(out / f"live-{width}-{theme}.png")
            wide = browser.run("document.documentElement.scrollWidth")
            contrast, where = browser.run(CONTRAST)
            say(
                f"{width} {theme}: layout shift {shift:.3f}, content {wide} px wide, least contrast {contrast:.2f} ({where!r})"
            )
            browser.run(
                "document.getElementById('main').prepend(Object.assign(document.createElement('div'), {style: 'height: 300px'}))"
            )
            time.sleep(0.3)
            if sum(browser.run("window.shifts")) <= shift:
                yield "the meter of layout shifts does not move when everything does"
            if wide > width:
                yield f"at {width} pixels the page is {wide} wide"
            if shift > LARGEST_SHIFT:
                yield f"at {width} {theme} things shift by {shift:.3f}"
            if contrast < 4.5:
                yield f"contrast {contrast:.2f} of {where!r}, {theme}"


def keyboard(browser: Browser) -> Iterator[str]:
    """What the Tab key reaches, and whether one sees it."""
    browser.run("window.scrollTo(0, 0); document.activeElement.blur()")
    seen = []
    for _ in range(80):
        browser.key("Tab", 9)
        found = browser.run(FOCUSED)
        if found is None:
            break
        seen.append(found)
        if not found[2]:
            yield f"{found[0]} {found[1]!r} has no visible outline when it has the focus"
    say(f"keyboard: {len(seen)} stops, the first {', '.join(tag for tag, _, _ in seen[:5])}")
    if not seen or seen[0][1] != "Skip to the numbers":
        yield f"the first stop must be the skip link, got {seen[:1]}"
    if not any(tag.startswith("SUMMARY") for tag, _, _ in seen):
        yield "drawers cannot be reached with the keyboard"


def stays(browser: Browser, tell: Report) -> Iterator[str]:
    """What must not change when sections are replaced."""
    browser.run(
        "document.getElementById('sure').open = true; document.querySelector('#sure summary').focus({preventScroll: true})"
    )
    browser.run("document.getElementById('learned').scrollIntoView(); window.scrollBy(0, 40)")
    place = "document.getElementById('learned').getBoundingClientRect().top"
    before, text = browser.run(place), browser.run("document.querySelector('#numbers').outerHTML")
    for _ in range(3):
        tell(2)
        browser.run(
            REFRESH.replace('document.getElementById("again").click()', 'window.dispatchEvent(new Event("online"))')
        )
    if browser.run("document.querySelector('#numbers').outerHTML") == text:
        yield "the numbers did not change when episodes were reported"
    if not browser.run("document.getElementById('sure').open"):
        yield "a drawer was closed by a refresh"
    if browser.run("document.activeElement.parentElement.id") != "sure":
        yield f"the focus was lost by a refresh: {browser.run('document.activeElement.tagName')}"
    if abs(browser.run(place) - before) > 1.5:
        yield f"what was being read moved from {before} to {browser.run(place)}"


def gone(browser: Browser, service: Service) -> Iterator[str]:
    """A service that ends is told, and found again."""
    service.stop()
    browser.run(REFRESH)
    bar, said = (
        browser.run("document.getElementById('age').textContent"),
        browser.run("document.getElementById('said').textContent"),
    )
    if "Not reached" not in bar or "cannot be reached" not in said:
        yield f"a service that has gone is not told: {bar!r}, {said!r}"
    service.start()
    browser.run(REFRESH)
    bar = browser.run("document.getElementById('age').textContent")
    say(f"service stopped and started: the bar says {bar!r}")
    if "Last event" not in bar or "Not reached" in bar:
        yield f"a service that is back is not told: {bar!r}"


def hidden(browser: Browser) -> Iterator[str]:
    """A page out of sight asks nothing."""
    count = "Number(document.getElementById('main').dataset.refreshes)"
    browser.run(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
    )
    before = browser.run(count)
    time.sleep(6.0)
    if browser.run(count) != before:
        yield "a hidden page goes on asking"
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait(f"{count} > {before}")


def asks(browser: Browser, plant: sf.Deployment) -> Iterator[str]:
    """A service with a token: the page asks for it, refuses another, shows nothing before, and remembers it in its tab."""
    token = "a-token-of-thirty-two-characters"
    service = Service(plant, token)
    address = f"http://127.0.0.1:{service.port}/live"
    enter = "(text => {{ document.getElementById('token').value = text; document.querySelector('#login button').click(); }})({!r})"
    try:
        browser("Page.navigate", url=address)
        browser.wait("document.getElementById('login')?.hidden === false")
        if browser.run("document.activeElement.id") != "token" or browser.run(
            "document.getElementById('main').children.length"
        ):
            yield "the form for the token has no focus, or something is shown before"
        browser.run(enter.format("wrong-token-of-thirty-two-characters"))
        browser.wait("document.getElementById('why').textContent.includes('does not know')")
        browser.run(enter.format(token))
        browser.wait("document.querySelector('#cost')")
        browser("Page.reload")
        browser.wait("document.querySelector('#cost')")
        if browser.run("document.cookie + location.search + location.hash"):
            yield "the token is in a cookie or in the address"
    finally:
        browser("Page.navigate", url="about:blank")
        service.stop()


def measure(browser: Browser) -> dict[str, float]:
    """Nodes, listeners and heap after garbage was collected."""
    browser("HeapProfiler.collectGarbage")
    counted = browser("Memory.getDOMCounters")
    heap = browser("Runtime.getHeapUsage")["usedSize"]
    return {"nodes": counted["nodes"], "listeners": counted["jsEventListeners"], "heap": heap}


def growth(browser: Browser, tell: Report, refreshes: int) -> Iterator[str]:
    """Whether many refreshes leave something behind."""
    first: dict[str, float] = {}
    began = time.monotonic()
    for k in range(refreshes):
        if k % 2:
            tell(1)  # every other refresh finds nothing new
        browser.run(REFRESH)
        if k + 1 == max(refreshes // 10, 1):
            first = measure(browser)
    last, seconds = measure(browser), time.monotonic() - began
    say(f"{refreshes} refreshes in {seconds:.0f} s: {first} after the first tenth, {last} at the end")
    for name, value in last.items():
        if value > LARGEST_GROWTH * first[name] + (500_000 if name == "heap" else 50):
            yield f"{name} grew from {first[name]:.0f} to {value:.0f} in {refreshes} refreshes"


@contextmanager
def deployment(path: Path | None) -> Iterator[tuple[sf.Deployment, Report]]:
    """A copy of the one that was named, or a small one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "plant.db"
        if path is not None:
            shutil.copy(path, database)
            with sf.Deployment.open(database, create=False) as plant:
                yield plant, reporter(plant, None)
            return
        policy_set = sf.train(sf.tasks.NoisyGridworld(), tasks=60, holdout=80, cells=8, seed=0, progress=False)
        with sf.Deployment.open(database, policy_set, p_max=0.99, evidence="returns") as plant:
            tell = reporter(plant, 0.3)
            for _ in range(60):
                tell(20)
            yield plant, tell


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--refreshes", type=int, default=1000)
    parser.add_argument("--browser", default=next((b for b in BROWSERS if shutil.which(b)), None))
    parser.add_argument("--plant", type=Path)
    given = parser.parse_args()
    if given.browser is None:
        say("no Chromium on this machine; install one, or name it with --browser")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with deployment(given.plant) as (plant, tell), tempfile.TemporaryDirectory() as profile:
        service, browser = Service(plant), Browser(given.browser, profile)
        try:
            address = f"http://127.0.0.1:{service.port}/live"
            wrong += look(browser, address, given.out, tell)
            wrong += keyboard(browser)
            wrong += stays(browser, tell)
            wrong += gone(browser, service)
            wrong += hidden(browser)
            wrong += asks(browser, plant)
            browser("Page.navigate", url=address)
            browser.wait("document.querySelector('#cost')")
            wrong += growth(browser, tell, given.refreshes)
        finally:
            browser.close()
            service.stop()
    for text in wrong:
        say(f"WRONG: {text}")
    say("all well" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
