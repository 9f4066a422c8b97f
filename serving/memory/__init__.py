"""The correction memory: what a person corrected is felt by the next look-alike, before any retraining.

kept       the corrected appeals of one model version, as the database has them
following  keeps that up to date in the background, and finds the look-alikes of a batch
telling    what an answer says of it, and when a person must look because of it
"""

from __future__ import annotations

from serving.memory.following import CorrectionMemory
from serving.memory.kept import remembered

__all__ = ["CorrectionMemory", "remembered"]
