"""The hospital's pages in a real browser, and the hospital they are looked at in."""
