"""Refiners of a test's own in a block."""


def replace_refiner(block, refiner):
    del block.refiner  # torch does not let anything but a module replace a module
    block.refiner = refiner
