"""A post office on the engine."""

from pipeline.application import Application

from .parcel import PARCEL
from .places import PLACES
from .van import LOAD, VAN

PARCELS = Application("parcels", aggregates=[PARCEL, VAN], joints=[LOAD], projections=[PLACES])
