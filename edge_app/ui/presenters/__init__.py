"""What each screen shows and does, without Kivy: a state, methods for taps, and workers for what takes time."""
