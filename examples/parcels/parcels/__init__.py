"""A post office on the engine."""

from pipeline.application import Application

from .parcel import PARCEL
from .places import PLACES
from .search import SEARCH

PARCELS = Application("parcels", aggregates=[PARCEL], projections=[PLACES], processes=[SEARCH])
