"""A live page of a robot in the browser: what it sees, plans and says, with start, stop and goals.

It knows neither torch nor MuJoCo. It never publishes commands: it changes the controller's state,
calls its stop, and sets goals.
"""
