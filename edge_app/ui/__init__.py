"""The window the paramedic sees: presenters without Kivy, and Kivy views that only show what they hold."""

from edge_app.ui.window import run_window

__all__ = ["run_window"]
