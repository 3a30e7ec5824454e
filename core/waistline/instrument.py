"""What ``bench.toml`` says of a measuring instrument: where it is, and how well it is known.

``[meter.NAME]`` describes one instrument. A true current is ``current_gain * reading +
current_offset_a``; a voltage likewise. Uncertainties are standard ones: of a limit without a
distribution, such as "±1 %", write the limit divided by the root of three. ``shunt_tolerance`` is
such a limit itself.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from waistline.errors import ConfigError

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """How readings become values, and how sure that is.

    Attributes:
        date: of the calibration, as text.
        current_gain, current_offset_a: applied to every current.
        voltage_gain, voltage_offset_v: applied to every sampled voltage.
        current_gain_uncertainty: relative; None: not known, then energies have no uncertainty.
        current_offset_uncertainty_a: of a current of zero.
        voltage_gain_uncertainty: relative, of a sampled voltage; None: not known.
        voltage_offset_uncertainty_v: of a voltage of zero.
        supply_v: constant voltage where none is sampled; None: as the meter was told.
        supply_uncertainty_v: None: not known.
        shunt_ohm: of a meter with a shunt of yours.
        shunt_tolerance: limit, relative (0.01 for 1 %).
        burden_ohm: between the known supply and the device; what it takes is not the device's.
        burden_uncertainty_ohm: of that.
        power_gain_uncertainty: relative, of a meter that gives power alone; None: by the gains of
            current and voltage, where both are stated.
        rate_uncertainty: relative, of the sample clock.
    """

    date: str = ""
    current_gain: Positive = 1.0
    current_offset_a: float = 0.0
    voltage_gain: Positive = 1.0
    voltage_offset_v: float = 0.0
    current_gain_uncertainty: NotNegative | None = None
    current_offset_uncertainty_a: NotNegative = 0.0
    voltage_gain_uncertainty: NotNegative | None = None
    voltage_offset_uncertainty_v: NotNegative = 0.0
    supply_v: Positive | None = None
    supply_uncertainty_v: NotNegative | None = None
    shunt_ohm: Positive | None = None
    shunt_tolerance: NotNegative | None = None
    burden_ohm: NotNegative = 0.0
    burden_uncertainty_ohm: NotNegative = 0.0
    power_gain_uncertainty: NotNegative | None = None
    rate_uncertainty: NotNegative = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} = {value} is not finite")

    @property
    def relative_current(self) -> float | None:
        """Standard uncertainty of the current's scale: gain and shunt in quadrature."""
        gain, shunt = self.current_gain_uncertainty, self.shunt_tolerance
        if gain is None and shunt is None:
            return None
        return math.hypot(gain or 0.0, (shunt or 0.0) / math.sqrt(3))

    @property
    def relative_power(self) -> float | None:
        """Standard uncertainty of the scale of a meter that gives power alone."""
        current, voltage = self.relative_current, self.voltage_gain_uncertainty
        if self.power_gain_uncertainty is not None or current is None or voltage is None:
            return self.power_gain_uncertainty
        return math.hypot(current, voltage)

    @property
    def corrects(self) -> bool:
        """Whether it changes any sample."""
        neutral = (self.current_gain, self.voltage_gain) == (1.0, 1.0)
        return not neutral or any((self.current_offset_a, self.voltage_offset_v, self.burden_ohm))


class MeterBench(Calibration, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One instrument on the desk.

    Attributes:
        kind: file name of its driver; "" is the section's own name.
        id: of this very instrument, as traces name it; "" is any of its kind.
        port: where it is; "" is the only one there is.
        options: of its driver, as ``--meter-option`` gives them.
    """

    kind: str = ""
    id: str = ""
    port: str = ""
    options: dict[str, str] = {}

    def calibration(self) -> Calibration:
        """What goes into a trace."""
        names = Calibration.__struct_fields__
        return Calibration(**{name: getattr(self, name) for name in names})


def calibration_from(values: object) -> Calibration:
    """A calibration that was stored as plain JSON values.

    Raises:
        ConfigError: it is none.
    """
    try:
        return msgspec.convert(values, Calibration)
    except msgspec.ValidationError as error:
        raise ConfigError(
            "a stored calibration cannot be read",
            cause=str(error),
            fix="correct its numbers, or leave it out",
        ) from error
