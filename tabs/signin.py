"""Who is signed in with Hugging Face: on a Space by its sign-in, on one's own machine by the token that lies there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import gradio as gr
from gradio.components import Component
from huggingface_hub import get_token
from starlette.requests import Request
from starlette.responses import RedirectResponse

from adapters.hub import Hub
from tabs import theme
from tabs.events import AT_ONCE
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import signed_in_name

# Gradio's own button brings back the first of the address's parameters only, and a run needs two. The page that lies in
# a frame opens a new tab: many browsers give a frame no cookies.
BRING_BACK = """element.addEventListener('click', (event) => {
  const link = event.target.closest('.sign-in');
  if (!link) return;
  link.href = '/login/huggingface?_target_url=' + encodeURIComponent('/' + window.location.search);
  if (window.self !== window.top) link.target = '_blank';
});"""


def build(studio: Studio, page: gr.Blocks) -> None:
    """Draw it where this is called; nothing where many come and none can sign in."""
    if studio.signs_in:
        _build_for_visitors(page)
    elif not studio.many_visitors:
        _build_for_the_owner(page)


def given_up(studio: Studio) -> dict[type[Exception], Callable[[Request, Exception], RedirectResponse]]:
    """What FastAPI does where a sign-in fails; Gradio would answer with an error of the server."""
    if not studio.signs_in:
        return {}
    from authlib.integrations.base_client.errors import OAuthError

    return {OAuthError: back_to_the_page}


def back_to_the_page(request: Request, problem: Exception) -> RedirectResponse:
    """Where a sign-in ends that was given up or went wrong: at the page as it was, and nobody is signed in."""
    query = urlsplit(request.query_params.get("_target_url", "")).query
    return RedirectResponse(f"/?{query}" if query else "/", status_code=303)


def _build_for_visitors(page: gr.Blocks) -> None:
    """A link that signs in or out, and who is signed in."""
    said = theme.markup(elem_id="who", js_on_load=BRING_BACK)
    # Nobody sees it: where there is one, Gradio adds the addresses that the links lead to.
    gr.LoginButton(visible=False)

    def look(request: gr.Request) -> str:
        return standing(signed_in_name(request))

    page.load(plainly(look), outputs=said, **AT_ONCE)


def standing(name: str) -> str:
    """Who is signed in, and the way out; or the way in."""
    if name:
        target = quote("/", safe="")
        return (f'<p class="who"><span>{theme.SIGNED_IN} <b dir="auto">{escaped(name)}</b></span>'
                f'<a id="sign-out" href="/logout?_target_url={target}">{theme.SIGN_OUT}</a></p>')
    return f'<p class="who"><span class="muted">{theme.WHY_SIGN_IN}</span>{way_in("sign-in")}</p>'


def way_in(name: str = "") -> str:
    """The link that signs in, by that id where one is given. `BRING_BACK` gives it the way back to what is shown."""
    named = f'id="{name}" ' if name else ""
    return f'<a {named}class="sign-in" href="/login/huggingface?_target_url={quote("/", safe="")}">{theme.SIGN_IN}</a>'


def _build_for_the_owner(page: gr.Blocks) -> None:
    """That this machine holds a token, where it does; who publishes without one is told there what to do. The Hub is
    asked whose it is when somebody wants to know.
    """
    with gr.Row(elem_classes="who-row"):
        said = theme.markup(elem_id="who")
        ask = gr.Button(theme.WHOSE_TOKEN, visible=False, elem_id="whose", elem_classes="quiet fit")

    def look() -> dict[Component, Any]:
        token = get_token()
        return {said: f'<p class="who muted">{theme.TOKEN_HERE}</p>' if token else "",
                ask: gr.update(visible=bool(token))}

    def whose() -> dict[Component, Any]:
        return {said: f'<p class="who"><span>{theme.SIGNED_IN} <b dir="auto">{escaped(token_owner())}</b></span></p>',
                ask: gr.update(visible=False)}

    page.load(plainly(look), outputs=[said, ask], **AT_ONCE)
    ask.click(plainly(whose), outputs=[said, ask], **AT_ONCE)


def token_owner() -> str:
    """Whose token this machine holds, as the Hub says; ValueError where it can't be asked or knows no such token."""
    return Hub().account(get_token() or "").name
