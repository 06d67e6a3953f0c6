"""What the planner would have been served of a recording, image by image."""

from collections import deque


def replay(assembler, images, proprio, actions=()):
    """Observations of recorded (stamp_ns, value) streams, one per image, oldest first.

    Live, images that became ready together give only the newest; here each is given: nothing more
    will arrive for it.
    """
    assembler._ready = lambda stamp_ns: True
    felt = deque(sorted(proprio, key=lambda sample: sample[0]))
    sent = deque(sorted(actions, key=lambda sample: sample[0]))
    for stamp_ns, image in sorted(images, key=lambda sample: sample[0]):
        reach_ns = max(assembler.tolerance_ns, assembler.joint_gap_ns)
        while felt and felt[0][0] <= stamp_ns + reach_ns:
            assembler.push_proprio(*felt.popleft())
        while sent and sent[0][0] <= stamp_ns:
            assembler.push_action(*sent.popleft())
        assembler.push_image(stamp_ns, image)
        observation = assembler.take()
        if observation is not None:
            yield observation
