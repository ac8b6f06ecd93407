"""The app as a visitor meets it: started as a process of its own, seen through the system's Chromium."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, Route, expect

from benchmarks.calls import free_port
from tests import chromium

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--no-first-run"]
PATIENCE = 60_000  # milliseconds; a busy machine is slow, not broken


@dataclass
class App:
    """A running app; `asked_elsewhere` collects what its pages wanted from anywhere but the app itself."""

    address: str
    home: Path
    process: subprocess.Popen
    log: Path
    seconds_to_page: float
    asked_elsewhere: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def open(self, browser: Browser, query: str = "", width: int = 1280, scheme: str = "light",
             first: str = "") -> Page:
        """A page of the app, once its data is read; `first` is a script that runs before the page's own."""
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        page.add_init_script(first)
        page.on("request", lambda request: self._note(request.url))
        page.on("pageerror", lambda problem: self.wrong.append(str(problem)))
        page.goto(self.address + query)
        # A link to lanes turns to the Chat tab by itself, and then the runs are there but not to be seen.
        page.locator("#past-runs p, #past-runs ul").first.wait_for(state="attached")
        return page

    def _note(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.asked_elsewhere.append(url)


@contextmanager
def running_app(home: Path, log: Path, port: int | None = None, root: Path = ROOT, **settings: str) -> Iterator[App]:
    """The app on a free port, or on this one, from its start until the page answers, ended with the context; `root` is
    where the project lies.
    """
    port = port or free_port()
    environment = {**os.environ, "PYTHONPATH": str(root), "STUDIO_HOME": str(home), "GRADIO_SERVER_PORT": str(port),
                   **settings}
    for name in ("STUDIO_BASE", "GRADIO_SERVER_NAME"):
        environment.pop(name, None)
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=root, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}/"
        _wait_for(address, process, log)
        yield App(address, home, process, log, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(20)


def launched(playwright: Playwright) -> Browser:
    """The system's Chromium, and patience with it."""
    expect.set_options(timeout=PATIENCE)
    return playwright.chromium.launch(executable_path=chromium.find_or_install(), args=FLAGS)


def loaded_again(page: Page, act: Callable[[], object]) -> None:
    """Do it, and wait until the page was loaded again, by whomever."""
    page.evaluate("window.isTheOldPage = true")
    act()
    page.wait_for_function("!window.isTheOldPage && document.querySelector('#past-runs p, #past-runs ul')")


def to_chat(page: Page) -> None:
    """Turn to the Chat tab."""
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#message textarea")).to_be_visible()


def ask(page: Page, question: str) -> None:
    """Send a message to every lane."""
    page.locator("#message textarea").fill(question)
    page.locator("#message textarea").press("Enter")


def pick(page: Page, letter: str, adapter: str) -> None:
    """Let a lane answer with another adapter."""
    page.locator(f"#picker-{letter} input").fill(adapter)
    page.locator(f"#picker-{letter} input").press("Enter")


def answered(page: Page, letter: str) -> None:
    """Wait until the lane says who answered and how fast, and nothing streams any more."""
    expect(page.locator(f"#newest-{letter} .by")).to_contain_text("per second")
    expect(page.locator("#send")).to_be_visible()


def lose_an_answer(page: Page, told: str) -> None:
    """The next look whose request holds this is never answered; wait until one was lost."""
    lost = []

    def lose_one(route: Route) -> None:
        if lost or told not in (route.request.post_data or ""):
            route.continue_()
        else:
            lost.append(route.request)

    page.route("**/run/*", lose_one)
    while not lost:
        page.wait_for_timeout(50)


def lose_words(page: Page, of: str, never_asked: bool = False) -> list[str]:
    """The page never hears of the next event of the function of this name, which the app answers all the same unless
    it was `never_asked`; the list gets something once it was lost.
    """
    config = page.evaluate("window.gradio_config.dependencies.map((one) => [one.id, one.api_name])")
    functions = {number for number, name in config if re.fullmatch(rf"{of}(_\d+)?", str(name))}
    lost: list[str] = []

    def lose_one(route: Route) -> None:
        if lost or json.loads(route.request.post_data or "{}").get("fn_index") not in functions:
            return route.continue_()
        lost.append("" if never_asked else route.fetch().json()["event_id"])
        return route.fulfill(json={"event_id": "an event that nobody ever hears of"})

    page.route("**/queue/join*", lose_one)
    return lost


# What the scripts below begin with: which of the page's requests is one of Gradio's queue, and a stream of words that
# somebody listens to on its way.
_QUEUE = """const plain = window.fetch;
const isOf = (resource, part) => String(resource.url ?? resource).includes(`/queue/${part}`);
const through = (answer, transform) => new Response(answer.body.pipeThrough(new TransformStream({transform})),
                                                    {status: answer.status, headers: answer.headers});
"""

# Gradio's page asks for a stream of answers when none is open, and the app ends it when nothing is to come. Here the
# page learns late that it has ended.
ENDS_LATE = _QUEUE + """window.fetch = async (resource, options) => {
  const answer = await plain(resource, options);
  if (!isOf(resource, 'data')) return answer;
  return through(answer, async (chunk, out) => {
    const words = new TextDecoder().decode(chunk);
    const place = words.indexOf('data: {"msg":"close_stream"');
    if (place < 0) return out.enqueue(chunk);
    if (place > 0) out.enqueue(new TextEncoder().encode(words.slice(0, place)));
    await new Promise((done) => setTimeout(done, 1500));
    out.enqueue(new TextEncoder().encode(words.slice(place)));
  });
};"""

# Gradio's page asks for words, and hears them in a stream beside its question. Here it learns late that it has asked:
# all the words of an answer lie there already, and are read at once.
HEARS_AT_ONCE = _QUEUE + """const heard = new Set();
let isOpen = false;
window.fetch = async (resource, options) => {
  const answer = await plain(resource, options);
  if (isOf(resource, 'join')) {
    const {event_id} = await answer.clone().json();
    while (isOpen && !heard.has(event_id)) await new Promise((next) => setTimeout(next, 10));
    isOpen = true;  // who asks while no stream is open opens one
    return answer;
  }
  if (!isOf(resource, 'data')) return answer;
  const decoder = new TextDecoder();
  let words = '';
  return through(answer, (chunk, out) => {
    words += decoder.decode(chunk, {stream: true});
    const whole = words.split('\\n\\n');
    words = whole.pop();
    for (const {msg, event_id} of whole.map((one) => JSON.parse(one.slice('data: '.length)))) {
      if (msg === 'process_completed') heard.add(event_id);
      if (msg === 'close_stream') isOpen = false;
    }
    out.enqueue(chunk);
  });
};"""


def _wait_for(address: str, process: subprocess.Popen, log: Path, patience: float = 120) -> None:
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise AssertionError(f"The app ended with code {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                answer.read()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError(f"No page after {patience} s: {log.read_text()[-2000:]}")
