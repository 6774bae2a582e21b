"""A small library for learning diffusion models: the real schedules, process, denoisers and samplers.

Each module is imported by its own name (``from diffusion_lib import schedules``); this page imports none of them.
"""

__version__ = "0.1.0"
