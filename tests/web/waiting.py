"""Waiting for a page under a strict Content-Security-Policy, which forbids the strings Playwright would evaluate."""

from __future__ import annotations

import time

from playwright.sync_api import Page

SECONDS = 30.0
HEARING = """(() => {
  window.EventSource = class extends window.EventSource {
    constructor(...given) {
      super(...given);
      for (const name of ["board", "changed"]) this.addEventListener(name, () => (window.heard = true));
    }
  };
})()"""
"""Run before a page's own scripts: notes that its stream has said something."""


def wait_for(page: Page, expression: str) -> None:
    """Ask the page until a JavaScript expression is true; fails the test after :data:`SECONDS`."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"waited in vain for {expression}"
        page.wait_for_timeout(50)


def wait_until_it_hears(page: Page) -> None:
    """Until the page's stream (see :data:`HEARING`) is open: before that it is told of no change."""
    wait_for(page, "window.heard === true")
