"""Builds the studio's parts, hands them to the page, and serves it."""

# Before everything else: on a ZeroGPU it changes torch when it is imported, so it has to be first.
import spaces  # noqa: I001

import argparse
import importlib.util
import inspect
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

# Nothing on this page may ask another machine for anything.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Gradio would read the port when it is imported, and answer a wrong one with a traceback.
os.environ["STUDIO_PORT"] = os.environ.pop("GRADIO_SERVER_PORT", "")

import gradio as gr
from gradio.utils import get_space

from adapters.library import Library
from phi3 import lending
from phi3.generate import Answer, Lane
from phi3.machine import NO_MEMORY, Machine, is_out_of_memory, this_machine, writable_home
from phi3.models import base_facts, chosen_base
from phi3.room import base_for_answers, beside_answers
from tabs import colours, page, signin, theme
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.visitor import WITHOUT_STORAGE
from training import lease
from training.leftovers import remove_leftovers
from training.limits import sweep
from training.presets import recommended
from training.runs import Runs
from training.sharing import has_the_card
from training.standby import Standby

USUAL_PORT = 7860
SECONDS_BETWEEN_SWEEPS = 3600
# Gradio keeps about 0.7 MB for each visit to this page, and takes each call of a program for one. A page that is open
# is heard of every few seconds, so the visits that are forgotten first are over.
VISITS_REMEMBERED = 256
# In gibibytes; beside the app, the browser and whatever else there is.
MEMORY_TO_STAND_BY = 8
# Each answer that streams and each turn of a lent GPU holds one.
THREADS = 64
HOW_TO_TELL = ("It is told by environment variables, as in GRADIO_SERVER_PORT=8000 python app.py, and has no options; "
               "README.md names them all.")


def main(arguments: Sequence[str] = ()) -> int:
    """Serve until Ctrl+C; 2 and one sentence where the base or the port can't be used, or an argument is given."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python app.py", description=f"Serves {theme.TITLE}. {HOW_TO_TELL}")
    unknown = parser.parse_known_args(arguments)[1]
    try:
        if unknown:
            raise ValueError(f"The app can't be told {' '.join(unknown)}. {HOW_TO_TELL}")
        address = free_address(os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), os.environ["STUDIO_PORT"])
        studio = built()
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    serve(studio, *address)
    return 0


def built() -> Studio:
    """All parts but the loaded base; ValueError where STUDIO_BASE names none that can be used, or STUDIO_HOME no folder
    that can be written.
    """
    home, machine = writable_home(), this_machine()
    facts = base_facts(chosen_base(machine.kind != "cpu"))
    machine = beside_answers(machine, facts.shape)
    studio = Studio(home, machine, facts, recommended(facts.config, machine), Runs(home), Library(home, base=facts.id),
                    many_visitors=many_come(os.environ.get("STUDIO_VISITORS", "")), signs_in=offers_sign_in(),
                    standby=Standby() if can_stand_by(machine) else None)
    return placed(studio) if machine.kind == "zerogpu" else studio


def serve(studio: Studio, host: str, port: int) -> None:
    """The page first, the base behind it, unless it is placed already: the page needn't wait for torch."""
    demo = page.build(studio).queue(max_size=64)
    demo.launch(server_name=host, server_port=port, prevent_thread_lock=True, theme=colours.studio_theme(),
                css_paths=[theme.STYLESHEET], head=WITHOUT_STORAGE, favicon_path=theme.FAVICON, footer_links=[],
                i18n=gr.I18n(en=theme.GRADIOS_WORDS), run_history=False, ssr_mode=False, quiet=True,
                max_file_size=largest_upload(studio), mcp_server=has_mcp(), max_threads=THREADS,
                state_session_capacity=VISITS_REMEMBERED,
                app_kwargs={"exception_handlers": signin.given_up(studio)})
    print(f"{theme.TITLE} is open at http://{host}:{port}  (Ctrl+C ends it)", flush=True)
    if not studio.answerer.done():
        threading.Thread(target=load_behind, args=(studio,), daemon=True).start()
    threading.Thread(target=tidy_behind, args=(studio,), daemon=True).start()
    demo.block_thread()


def can_stand_by(machine: Machine) -> bool:
    """Whether a process may wait for the next run here. Where there is a card it might hold some of its memory."""
    return machine.kind == "cpu" and machine.memory >= MEMORY_TO_STAND_BY


def has_mcp() -> bool:
    """Whether the endpoints can be tools for MCP clients as well."""
    return importlib.util.find_spec("mcp") is not None


def largest_upload(studio: Studio) -> str | None:
    """As Gradio takes it; None is any size."""
    most = studio.limits.upload_mebibytes
    return None if most is None else f"{most}mb"


def load_behind(studio: Studio) -> None:
    """Load the tokenizer, then the base: in one thread, since two that import transformers at once trip each other."""
    from phi3.generate import Answerer
    from phi3.giving import GivingAnswerer
    from phi3.models import load_tokenizer

    def answerer() -> Answerer:
        return Answerer(base_for_answers(studio.facts.id), studio.ready)

    def shared() -> GivingAnswerer:
        return GivingAnswerer(answerer, lambda: has_the_card(studio.runs))

    _fill(studio.tokenizer, lambda: load_tokenizer(studio.facts))
    _fill(studio.answerer, shared if studio.machine.card_taken else answerer)
    studio.stand_by()


def tidy_behind(studio: Studio) -> None:
    """Runs that waited when the app ended wait on; those that nobody came back for go when their time is over, and so
    does what was half made or half removed when a process was killed.
    """
    pause = threading.Event()
    while True:
        try:
            studio.queue.look()
            remove_leftovers(studio.home)
            for gone in sweep(studio.runs, studio.limits):
                logging.getLogger("studio").info("%s was kept long enough", gone)
        except Exception:  # a full disk, maybe, which is when it counts that the next time comes
            logging.getLogger("studio").exception("Not all could be tidied")
        if not studio.many_visitors:
            return
        pause.wait(SECONDS_BETWEEN_SWEEPS)


def _fill(promised: Future[Any], load: Callable[[], Any]) -> None:
    try:
        promised.set_result(load())
    except Exception as problem:
        logging.getLogger("studio").exception("The base could not be loaded")
        # The problem itself knows where it was raised, and so would keep what was loaded until then.
        without = ValueError(NO_MEMORY.format("the base that answers", "start the app again"))
        promised.set_exception(without if is_out_of_memory(problem) else problem)


def placed(studio: Studio) -> Studio:
    """The studio for a ZeroGPU: the base lies on "cuda" before the launch, which packs it, and what needs the card
    borrows it. ValueError where STUDIO_TURN_SECONDS is none.

    A worker is forked from this process: what it needs is imported and loaded before the first one.
    """
    import torch

    import training.train  # noqa: F401
    from phi3.models import load_base

    # A forked process that computes in threads after its parent did so waits for them for ever.
    torch.set_num_threads(1)
    longest = turn_seconds(os.environ.get("STUDIO_TURN_SECONDS", ""))
    base = load_base(studio.facts.id)

    def train(run_id: str, seconds: int) -> None:
        lease.train_within(base, studio.runs.get(run_id), seconds)

    def answer(lanes: Sequence[Lane], flag: str, seconds: int) -> Iterator[list[Answer]]:
        yield from lending.answered_within(base, lanes, flag, seconds, studio.ready)

    answerer = lending.LentAnswerer(lent(answer, lambda lanes, flag, seconds: seconds), studio.home)
    studio.answerer.set_result(answerer)
    studio.tokenizer.set_result(base.tokenizer)
    return replace(studio, lend=lent(train, lambda run_id, seconds: seconds), turn_seconds=longest)


def lent(task: Callable[..., Any], seconds: Callable[..., int]) -> Callable[..., Any]:
    """The task in a worker that has the GPU, for as long as `seconds` says of the same arguments; Refused where none
    is lent.

    Only a `gr.Error` keeps its text on its way out of a worker, so the task speaks plainly inside of it.
    """
    borrowed = spaces.GPU(duration=seconds)(plainly(task))

    def streamed(*given: Any) -> Iterator[Any]:
        with _refusals():
            yield from borrowed(*given)

    def done(*given: Any) -> Any:
        with _refusals():
            return borrowed(*given)

    return streamed if inspect.isgeneratorfunction(task) else done


@contextmanager
def _refusals() -> Iterator[None]:
    """What `spaces` says when it lends nothing, as the sentence that the page shows."""
    try:
        yield
    except gr.Error as problem:
        if problem.title.startswith("ZeroGPU"):
            raise lending.Refused(lending.refusal_of(str(problem.message))) from problem
        raise
    except RuntimeError as problem:
        raise lending.Refused(lending.refusal_of(str(problem))) from problem


def many_come(said: str) -> bool:
    """Whether each visitor sees only what is theirs: so on a Space, or where STUDIO_VISITORS says it; ValueError where
    that says neither.
    """
    if said not in ("", "one", "many"):
        raise ValueError(f"STUDIO_VISITORS is {said!r}, and must be one or many.")
    return said == "many" if said else get_space() is not None


def offers_sign_in() -> bool:
    """Whether Hugging Face signs visitors in: on a Space whose README says `hf_oauth: true`."""
    return get_space() is not None and "OAUTH_CLIENT_ID" in os.environ


def turn_seconds(said: str) -> int:
    """How long a run borrows the GPU at a time; ValueError where that is no number of seconds."""
    if said and not (said.isdigit() and 5 <= int(said) <= 3600):
        raise ValueError(f"STUDIO_TURN_SECONDS is {said!r}, and must be a number from 5 to 3600.")
    return int(said) if said else Studio.turn_seconds


def free_address(host: str, port: str) -> tuple[str, int]:
    """Host and port to serve on; ValueError where the port is no port or is taken."""
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"GRADIO_SERVER_PORT is {port!r}, and must be a number from 1 to 65535.")
    number = int(port) if port else USUAL_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as problem:
            raise ValueError(f"Port {number} on {host} can't be used ({problem.strerror}). Stop what runs there, or "
                             f"choose another: GRADIO_SERVER_PORT={number + 1} python app.py") from None
    return host, number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
