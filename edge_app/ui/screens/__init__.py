"""The screens themselves: Kivy views that show what their presenters hold, and hand taps to them."""
