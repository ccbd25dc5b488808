"""Waiting for a page under a strict Content-Security-Policy, which forbids the strings Playwright would evaluate."""

from __future__ import annotations

import time

from playwright.sync_api import Page

SECONDS = 30.0


def wait_for(page: Page, expression: str) -> None:
    """Ask the page until a JavaScript expression is true; fails the test after :data:`SECONDS`."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"waited in vain for {expression}"
        page.wait_for_timeout(50)
