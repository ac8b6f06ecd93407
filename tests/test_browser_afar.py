"""A run that its owner keeps on the Hub, in a browser: ticked, sent, and brought back on a new disk."""

import pytest
from playwright.sync_api import expect

from tabs import theme
from tests.browser import running_app
from tests.hub import Token
from tests.openid import running_provider
from tests.test_browser_visitors import begin
from tests.test_signin import ADA, everything_kept, opened, sign_in
from training.runs import Runs

pytestmark = pytest.mark.slow
SOON = 240_000


def signed_in_page(visitors, app, provider, hub):
    """A page on which ada is signed in, with a token that the Hub knows as well."""
    page = opened(visitors(), app)
    sign_in(page, "ada")
    for token in provider.tokens:
        hub.tokens[token] = Token("ada", "contribute-repos")
    return page


def test_a_ticked_run_is_kept_and_goes_on_after_its_disk_was_lost(test_hub, tmp_path, visitors):
    test_hub.token("ada")
    with running_provider("ada") as provider:
        settings = {**provider.settings(), "HF_ENDPOINT": test_hub.address}
        with running_app(tmp_path / "first", tmp_path / "first.log", **settings) as app:
            page = signed_in_page(visitors, app, provider, test_hub)
            expect(page.locator("#keep-afar")).to_be_hidden()
            begin(page, "far", steps=40, address="run=")
            expect(page.locator("#keep-afar")).to_contain_text("the conversations that it learns from")
            assert not test_hub.repositories
            page.locator("#keep-afar input").check()
            expect(page.locator("#kept-afar")).to_contain_text("Kept up to step 40 in ada/phi3-run-far-", timeout=SOON)
            page.reload()
            page.locator("#past-runs a", has_text="far").click()
            expect(page.locator("#keep-afar input")).to_be_checked()
        kept = everything_kept(app)  # as it sends, files come and go
        (there,) = test_hub.repositories.values()
        assert there.private and there.made_by_app
        with running_app(tmp_path / "second", tmp_path / "second.log", **settings) as app:
            page = signed_in_page(visitors, app, provider, test_hub)
            page.reload()
            expect(page.get_by_role("heading", name=theme.KEPT_RUNS)).to_be_visible()
            page.locator("#bring-back").click()
            expect(page.locator(".outcome")).to_contain_text("brought back from ada/phi3-run-far-")
            expect(page.locator("#keep-afar input")).to_be_checked()
            expect(page.locator("#bring-back")).to_be_hidden()
            page.locator("#resume-run").click()
            expect(page.locator(".outcome")).to_contain_text("is ready", timeout=SOON)
            assert [run.owner for run in Runs(app.home).all()] == [ADA]
        kept += everything_kept(app)
        assert provider.tokens and not any(token.encode() in kept for token in provider.tokens)


def test_on_ones_own_machine_nothing_is_offered(tmp_path, visitors):
    with running_app(tmp_path / "studio", tmp_path / "app.log") as app:
        page = visitors().new_page()
        page.goto(app.address)
        page.locator("#past-runs p, #past-runs ul").first.wait_for()
        expect(page.locator("#keep-afar")).to_have_count(0)
        expect(page.locator("#bring-back")).to_have_count(0)
