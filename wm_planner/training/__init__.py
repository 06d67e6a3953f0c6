"""Training: from recorded trajectories to a checkpoint, and from a checkpoint to a better one.

`encoder`, `projector`, `model` and `finetune` each hold the settings, the learner
and the function of one ``wm-planner`` command. `loop.fit` trains any `learner.Learner` on a
`machine.Machine` and leaves its `run_directory`. `recipe` joins all settings in one file.
"""
